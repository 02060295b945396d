"""A tiny case, stand-ins for an interpreter with nnunetv2, and the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from random_model import RandomModel, smooth_image
from typer.testing import CliRunner

from napari_nnunet_cpu.bench.case import BenchCase, own_case
from napari_nnunet_cpu.cases import Case, write_labels
from napari_nnunet_cpu.cli import app

LABELS = {"background": 0, "class 1": 1, "class 2": 2, "class 3": 3}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BenchCase:
    folder = tmp_path_factory.mktemp("tiny")
    image = Case(smooth_image((24, 30, 28)), (2.0, 1.5, 1.5), name="image")
    path = write_labels(folder / "image_0000.nii.gz", image.channels[0].astype("int16") + 400, image)
    return own_case(RandomModel(spacing=(2.0, 2.0, 2.0), labels=LABELS, folds=("0", "1")).write(folder), (path,))


@pytest.fixture
def interpreter(tmp_path: Path) -> Callable[[str], str]:
    """Makes a program that takes an interpreter's place: a shell script."""
    if sys.platform == "win32":
        pytest.skip("stand-ins are shell scripts")

    def make(script: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def nnunet() -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
