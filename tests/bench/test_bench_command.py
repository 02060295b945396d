"""`nnunet-cpu bench` on a user's model and image."""

import json

import pytest
from random_model import RandomModel

from napari_nnunet_cpu.bench import document
from napari_nnunet_cpu.bench.theirs import Theirs
from napari_nnunet_cpu.errors import ViewerError
from napari_nnunet_cpu.resources import usable_cores

pytestmark = pytest.mark.slow

LACKING = "exit 1"  # an interpreter without nnunetv2


@pytest.fixture
def own(tiny):
    """The options that name the model and the image."""
    return ["-m", tiny.model.folder, "--image", tiny.images[0]]


def test_ours_alone_in_real_processes(nnunet, interpreter, own, tmp_path):
    options = ["--pairs", 1, "--reference", interpreter(LACKING), "--work", tmp_path / "work"]
    done = nnunet("bench", *own, *options, "--streams", 2, "--streams", 2, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    (case,) = found["cases"]
    assert [row["way"] for row in case["rows"]] == ["exact, first", "exact, cached", "exact, cached, 2 streams"]
    assert case["classes"] == 4
    assert case["image"] == {"shape": [24, 30, 28], "spacing_mm": [2.0, 1.5, 1.5]}
    (runs,) = [each["runs"] for each in case["rounds"]]
    for row in case["rows"]:
        run = runs[row["way"]]
        assert row["seconds"] == run["seconds"] > sum(run["stages"].values()) > 0
        assert row["ratio"] is row["equal"] is row["failure"] is None
    first, cached, _ = case["rows"]
    details = {way: run["details"] for way, run in runs.items()}
    assert details["exact, cached"]["streams"] == 1
    most = min(2, usable_cores()) if details["exact, first"]["engine"] == "openvino" else 1
    assert details["exact, cached, 2 streams"]["streams"] == most
    assert details["exact, first"]["tiles"] >= 8
    if details["exact, first"]["engine"] == "openvino":
        assert first["stages"]["load"] > cached["stages"]["load"]  # the conversion
    assert found["reference"]["nnunetv2"] is None
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["torch"]


def test_a_table_for_people(nnunet, interpreter, own, monkeypatch):
    """With the processes of both programs left out: all of them fail."""
    monkeypatch.setattr("napari_nnunet_cpu.cli.bench.sys.executable", interpreter(LACKING))
    monkeypatch.setattr("napari_nnunet_cpu.bench.ours.sys.executable", interpreter("echo no space left >&2; exit 1"))
    done = nnunet("bench", *own, "--preset", "fast", "--engine", "torch", "--reference", interpreter(LACKING))
    assert done.exit_code == 0
    assert "nnU-Net was not measured" in done.stdout
    assert "fast, cached" in done.stdout
    assert "24 x 30 x 28" in done.stdout
    assert "own, 1 of 3: fast, first" in done.stderr


def test_a_table_of_runs_in_a_window(nnunet, own, monkeypatch):
    asked = []

    def rows(case, presets, engine, times, *_):
        asked.append((case.model.folds, engine, times))
        figures = {"first": 2.0, "final": 4.25, "whole": 10.0, "gap": 0.04, "gap_outside": 0.03, "gap_idle": None}
        lost = dict.fromkeys([*figures, "first_share", "final_share", "tiles"])
        known = figures | {"first_share": 0.2, "final_share": 0.425, "tiles": 8}
        return [
            {"case": "own", "preset": presets[0], "failure": None} | known,
            {"case": "own", "preset": presets[1], "failure": "no window"} | lost,
        ]

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(document, "check_window", lambda: None)
    monkeypatch.setattr(document, "live_rows", rows)
    done = nnunet("bench", *own, "--live", "--pairs", 2, "--engine", "torch")
    assert (done.exit_code, done.stderr) == (0, "own, fast: no window\n")
    assert asked == [(("0",), "torch", 2)]
    cells = ["own", "exact", "8", "10 s", "2 s (20%)", "4.25 s (42%)", "0.04 s", "0.03 s", "–"]
    assert [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "exact" in line
    ] == [cells]


def test_no_window(nnunet, own, monkeypatch):
    def refuse():
        raise ViewerError("no window can be opened: there is no display")

    monkeypatch.setattr(document, "check_window", refuse)
    done = nnunet("bench", *own, "--live")
    assert (done.exit_code, done.stderr) == (1, "error: no window can be opened: there is no display\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "quick"], "unknown preset 'quick'"),
        (["--live", "--streams", "2"], "--streams does not apply to --live: leave out one of them"),
        (["--engine", "steam"], "unknown engine 'steam'"),
        (["--reference", "/no/such/python"], "/no/such/python can't be run"),
    ],
)
def test_what_cannot_be_asked(nnunet, own, arguments, message):
    done = nnunet("bench", *own, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize("missing", ["--model", "--image"])
def test_model_and_image_are_needed(nnunet, own, missing):
    done = nnunet("bench", *(own[2:] if missing == "--model" else own[:2]))
    assert done.exit_code == 2
    assert missing in done.stderr


def test_a_cascade_is_refused(nnunet, interpreter, tmp_path):
    low = RandomModel(spacing=(2.0, 2.0, 2.0), called="3d_lowres")
    model = RandomModel(first_stage=low).write(tmp_path)
    done = nnunet("bench", "-m", model, "--image", "image.nii.gz", "--reference", interpreter(LACKING))
    assert done.exit_code == 2
    assert "is a cascade; bench measures one network" in done.stderr


def test_nnunetv2_is_found_by_its_version(interpreter):
    theirs = Theirs.find(interpreter("echo 2.8.1 2.14.1"), 60)
    assert theirs.describe() == {"nnunetv2": "2.8.1", "torch": "2.14.1", "where": "the interpreter named"}
