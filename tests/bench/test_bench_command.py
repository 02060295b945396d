"""`nnunet-cpu bench` from start to end, ours alone, in real processes."""

import json

import pytest
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu.bench.cases import WRITERS
from napari_nnunet_cpu.bench.theirs import Theirs
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.resources import usable_cores

LACKING = "exit 1"  # an interpreter without nnunetv2


@pytest.fixture
def tiny_by_name(tiny, monkeypatch):
    monkeypatch.setitem(WRITERS, "tiny", lambda name, folder: tiny)


def test_ours_alone(nnunet, interpreter, tiny_by_name, tmp_path):
    page = tmp_path / "page.md"
    options = ["--pairs", 2, "--reference", interpreter(LACKING), "--work", tmp_path / "work", "--out", page]
    done = nnunet("bench", "tiny", *options, "--streams", 2, "--streams", 2, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    (case,) = document["cases"]
    assert [row["way"] for row in case["rows"]] == ["exact, first", "exact, cached", "exact, cached, 2 streams"]
    assert case["classes"] == 4
    assert case["image"] == {"shape": [24, 30, 28], "spacing_mm": [2.0, 1.5, 1.5]}
    for row in case["rows"]:
        runs = [found["runs"][row["way"]] for found in case["rounds"]]
        assert row["seconds"] == sum(run["seconds"] for run in runs) / 2
        assert all(run["seconds"] > sum(run["stages"].values()) > 0 for run in runs)
        assert row["ratio"] is row["equal"] is row["failure"] is None
    first, cached, _ = case["rows"]
    details = {way: run["details"] for way, run in case["rounds"][0]["runs"].items()}
    assert details["exact, cached"]["streams"] == 1
    most = min(2, usable_cores()) if details["exact, first"]["engine"] == "openvino" else 1
    assert details["exact, cached, 2 streams"]["streams"] == most
    assert details["exact, first"]["tiles"] >= 8
    if details["exact, first"]["engine"] == "openvino":
        assert first["stages"]["load"] > cached["stages"]["load"]  # the conversion
    assert document["reference"]["nnunetv2"] is None
    assert document["machine"]["cores"] >= 1
    assert document["versions"]["torch"]
    text = page.read_text(encoding="utf-8")
    assert "nnU-Net was not measured: nnunetv2 is not installed in the interpreter named" in text
    options = "--preset exact --streams 2 --pairs 2 --reference PYTHON --out docs/benchmarks.md"
    assert f"nnunet-cpu bench tiny {options}" in text
    assert "2 times each" in text
    assert str(tmp_path) not in text


def test_own_model_for_people(nnunet, interpreter, tmp_path):
    import nibabel as nib
    import numpy as np

    model = RandomModel(folds=("0", "1")).write(tmp_path)
    image = tmp_path / "patient_0000.nii.gz"
    nib.save(nib.Nifti1Image(smooth_image((16, 20, 18))[0].T, np.eye(4)), image)
    options = ["--preset", "fast", "--engine", "torch", "--pairs", 1, "--reference", interpreter(LACKING)]
    done = nnunet("bench", "-m", model, "--image", image, *options)
    assert done.exit_code == 0
    assert "nnU-Net was not measured" in done.stdout
    assert "fast, first" in done.stdout
    assert "fast, cached" in done.stdout
    assert "16 x 20 x 18" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["6-classes"], "unknown case '6-classes': choose among 5-classes, 60-classes"),
        (["sample", "-m", "model"], "a model of your own needs an image"),
        (["sample", "--image", "image.nii"], "give both -m and --image"),
        (["sample", "--preset", "quick"], "unknown preset 'quick'"),
        (["sample", "--live", "--streams", "2"], "--streams is for runs side by side: leave it out, or --live"),
        (["sample", "--engine", "steam"], "unknown engine 'steam'"),
        (["sample", "--reference", "/no/such/python"], "/no/such/python can't be run"),
    ],
)
def test_what_cannot_be_asked(nnunet, arguments, message):
    done = nnunet("bench", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_without_names_it_is_all_but_the_large_one(nnunet, interpreter, monkeypatch):
    asked = []

    def record(names, *_, **__):
        asked.extend(names)
        raise SettingsError("enough")

    monkeypatch.setattr("napari_nnunet_cpu.bench.document.bench", record)
    assert nnunet("bench", "--json", "--reference", interpreter(LACKING)).exit_code == 2
    assert set(asked) == set(WRITERS) - {"118-classes", "300-cube"}


def test_a_cascade_is_refused(nnunet, interpreter, tmp_path):
    low = RandomModel(spacing=(2.0, 2.0, 2.0), called="3d_lowres")
    model = RandomModel(first_stage=low).write(tmp_path)
    done = nnunet("bench", "-m", model, "--image", "image.nii.gz", "--reference", interpreter(LACKING))
    assert done.exit_code == 2
    assert "is a cascade; bench measures one network" in done.stderr


def test_help_names_every_case(nnunet):
    said = nnunet("bench", "--help").stdout
    assert all(name in said for name in WRITERS)


def test_nnunetv2_is_found_by_its_version(interpreter):
    theirs = Theirs.find(interpreter("echo 2.8.1 2.14.1"), 60)
    assert theirs.describe() == {"nnunetv2": "2.8.1", "torch": "2.14.1", "where": "the interpreter named"}
