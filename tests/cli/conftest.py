"""A tiny model, its images, and the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import Result
from random_model import RandomModel, smooth_image
from typer.testing import CliRunner

from napari_nnunet_cpu.cli import app

SHAPE = (16, 20, 18)  # two tiles of the random model's patch

NNUNet = Callable[..., Result]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds, two mirroring axes, one channel."""
    return RandomModel(folds=("0", "1"), mirror_axes=(0, 2)).write(tmp_path_factory.mktemp("model"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """One channel with spacing (Z, Y, X) = (1, 1.25, 1) mm."""
    return write_image(tmp_path / "patient_0000.nii.gz")


@pytest.fixture
def nnunet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NNUNet:
    """Runs `nnunet-cpu` with arguments, in an empty folder."""
    folder = tmp_path / "working"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


def write_image(path: Path, seed: int = 0) -> Path:
    data = smooth_image(SHAPE, seed)[0].transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.25, 1.0, 1.0])), path)
    return path
