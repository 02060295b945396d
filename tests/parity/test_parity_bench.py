"""The bench's program around nnU-Net: it gives nnU-Net's labels and its figures, and says in one line why it fails."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest
from images import read_labels
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Settings, read_case, segment
from napari_nnunet_cpu.bench.agreement import agreement
from napari_nnunet_cpu.bench.case import BenchCase, own_case
from napari_nnunet_cpu.bench.measured import STAGES
from napari_nnunet_cpu.bench.theirs import Theirs
from napari_nnunet_cpu.cases import Case, write_labels
from napari_nnunet_cpu.resources import usable_cores


@pytest.fixture
def case(tmp_path: Path) -> BenchCase:
    image = Case(smooth_image((20, 24, 22)), (1.5, 1.0, 1.2), name="image")
    path = write_labels(tmp_path / "image_0000.nii.gz", image.channels[0].astype("int16") + 400, image)
    return own_case(RandomModel(folds=("0", "1"), mirror_axes=(0, 1)).write(tmp_path), (path,))


@pytest.fixture
def theirs() -> Theirs:
    return Theirs.find(sys.executable, 300)


def test_labels_and_figures(case: BenchCase, theirs: Theirs, tmp_path: Path) -> None:
    assert theirs.version == importlib.metadata.version("nnunetv2")
    run = theirs.run(case, tmp_path / "theirs")
    assert run.failure is None
    ours = segment(read_case(*case.images), case.model, Settings.exact(mirror=False))
    assert agreement(ours.labels, read_labels(run.labels)).equal > 0.999
    assert set(run.stages) == set(STAGES)
    assert min(run.stages.values()) > 0
    assert run.seconds > run.stage_seconds
    assert run.first_final_seconds == run.seconds
    assert run.details["threads"] == usable_cores()
    if sys.platform == "linux":
        assert 0 < run.over_idle_mb < 1000


def test_a_failure_is_one_line(case: BenchCase, theirs: Theirs, tmp_path: Path) -> None:
    case.model.checkpoints[0].unlink()
    run = theirs.run(case, tmp_path / "theirs")
    assert "No such file or directory" in run.failure
    assert "\n" not in run.failure
    assert (run.labels, run.stages) == (None, {})
