"""Both sides in turn; nnU-Net's place is taken by a stand-in that answers, fails, dies or sleeps."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from napari_nnunet_cpu import Settings, read_case, segment
from napari_nnunet_cpu.bench.agreement import agreement
from napari_nnunet_cpu.bench.measured import Measured
from napari_nnunet_cpu.bench.ours import Ours
from napari_nnunet_cpu.bench.pairs import REFERENCE, Pairs
from napari_nnunet_cpu.bench.table import HEADER, cells
from napari_nnunet_cpu.bench.theirs import Theirs
from napari_nnunet_cpu.cases import write_labels

pytestmark = pytest.mark.slow

WAYS = tuple(Ours("exact", "torch", kind) for kind in ("first", "cached"))
# Answers as reference.py does, with labels that lie ready.
ANSWERS = """
import json, shutil, sys
task = json.load(open(sys.argv[2]))
shutil.copy({labels!r}, task["out"])
stages = dict(load=1.0, prepare=2.0, predict=30.0, export=7.0)
print(json.dumps(dict(seconds=stages, idle_memory_mb=300.0, peak_memory_mb=1300.0, threads=task["threads"])))
"""


class Replayed:
    """One of our ways, whose process ran once: every round is given that run, a second longer than the last."""

    def __init__(self, way: Ours, run: Measured) -> None:
        self.preset, self.kind, self.name, self._run = way.preset, way.kind, way.name, run

    def run(self, case, cache, out) -> Measured:
        run, self._run = self._run, replace(self._run, seconds=self._run.seconds + 1)
        return run


@pytest.fixture(scope="module")
def replayed(tiny, tmp_path_factory):
    """Each way, run for real."""
    folder = tmp_path_factory.mktemp("ours")
    return [Replayed(way, way.run(tiny, folder / "cache", folder / way.kind)) for way in WAYS]


@pytest.fixture
def answering(interpreter, tiny, tmp_path):
    """Interpreter whose nnU-Net gives our labels but for the first slice, and the labels."""
    case = read_case(*tiny.images)
    labels = segment(case, tiny.model, Settings.exact(mirror=False, engine="torch")).labels
    labels[0] = 3
    ready, program = tmp_path / "ready.nii.gz", tmp_path / "answers.py"
    write_labels(ready, labels, case)
    program.write_text(ANSWERS.format(labels=str(ready)))
    return interpreter(f'exec {sys.executable} {program} "$@"'), labels


def test_rounds_rows_and_their_order(tiny, answering, replayed, tmp_path):
    python, labels = answering
    said = []
    pairs = Pairs(tiny, replayed, Theirs(python, "2.8.1", "2.14.1", 60), tmp_path, said.append)
    document = pairs.run(2)
    assert [line.split(": ")[1] for line in said] == [
        REFERENCE, "exact, first", "exact, cached", "exact, first", "exact, cached", REFERENCE
    ]  # fmt: skip
    json.dumps(document, allow_nan=False)
    theirs, first, cached = document["rows"]
    assert theirs["stages"] == {"load": 1.0, "prepare": 2.0, "predict": 30.0, "export": 7.0}
    assert (theirs["stage_seconds"], theirs["over_idle_mb"], theirs["ratio"]) == (40.0, 1000.0, None)
    assert theirs["first_final_seconds"] == theirs["seconds"]
    runs = [found["runs"] for found in document["rounds"]]
    for row in (first, cached):
        each = [found[REFERENCE]["seconds"] / found[row["way"]]["seconds"] for found in runs]
        assert (row["ratio"]["least"], row["ratio"]["most"]) == (min(each), max(each))
        assert row["seconds"] == np.mean([found[row["way"]]["seconds"] for found in runs])  # the median of two
        mine = np.median([sum(found[row["way"]]["stages"].values()) for found in runs])
        assert row["stage_ratio"]["medians"] == pytest.approx(40 / mine)
        ours = segment(read_case(*tiny.images), tiny.model, Settings.exact(mirror=False, engine="torch")).labels
        expected = agreement(ours, labels)
        assert expected.equal < 1
        assert (row["equal"], row["worst_dice"]) == (expected.equal, expected.worst_dice)
        assert row["worst_label"] == f"{expected.worst_label} class {expected.worst_label}"
    assert 0 < document["boundary_share"] < 1
    if sys.platform == "linux":
        assert first["over_idle_mb"] < 500  # a tiny network; the libraries are not counted


@pytest.mark.parametrize(
    ("script", "timeout", "failure"),
    [
        ("echo 'RuntimeError: no memory left' >&2; exit 1", 60, "RuntimeError: no memory left"),
        ("kill -9 $$", 60, "killed by SIGKILL"),
        ("exec sleep 60", 0.5, "no result after 0.5 s"),
    ],
)
def test_a_reference_that_fails_is_a_row_and_is_not_tried_again(
    tiny, interpreter, replayed, tmp_path, script, timeout, failure
):
    theirs = Theirs(interpreter(script), "2.8.1", "2.14.1", timeout)
    document = Pairs(tiny, replayed[1:], theirs, tmp_path, lambda text: None).run(2)
    lost, ours = document["rows"]
    assert (lost["way"], lost["failure"], lost["seconds"]) == (REFERENCE, failure, None)
    assert [REFERENCE in found["runs"] for found in document["rounds"]] == [True, False]
    assert ours["seconds"] > 0
    assert (ours["ratio"], ours["equal"], ours["worst_dice"]) == (None, None, None)
    assert cells(lost)[0] == f"nnU-Net, failed: {failure}"


def test_ours_may_fail_too(tiny, tmp_path):
    theirs = Theirs(sys.executable, None, None, 60)
    document = Pairs(tiny, [Ours("nonsense", "torch", "first")], theirs, tmp_path, lambda text: None).run(1)
    (row,) = document["rows"]
    assert "unknown preset 'nonsense'" in row["failure"]
    assert document["boundary_share"] is None


def test_cells():
    row = {
        "way": "exact, cached", "failure": None, "seconds": 12.345, "stage_seconds": 9.0,
        "stages": {"load": 0.5, "prepare": 1.0, "predict": 7.25, "export": 0.25},
        "over_idle_mb": 1234.4, "first_final_seconds": None,
        "ratio": {"medians": 3.2, "least": 2.9, "most": 3.456}, "stage_ratio": None, "memory_ratio": None,
        "equal": 0.999987, "worst_dice": 0.98765, "worst_label": "7 left|kidney",
    }  # fmt: skip
    assert dict(zip(HEADER, cells(row), strict=True)) == {
        "way": "exact, cached", "whole": "12.3 s", "load": "0.50 s", "prepare": "1.00 s", "predict": "7.25 s",
        "export": "0.25 s", "first final": "–", "memory": "1,234 MB", "times faster": "3.20 (2.90-3.46)",
        "stages alone": "–", "times less memory": "–", "labels equal": "99.9987 %",
        "worst class": "0.9877 (7 left|kidney)",
    }  # fmt: skip
