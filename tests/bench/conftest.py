"""A tiny case, stand-ins for an interpreter with nnunetv2, and the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from napari_nnunet_cpu.bench.cases import BenchCase, RandomCase
from napari_nnunet_cpu.bench.model_folder import RandomModel
from napari_nnunet_cpu.cli import app

TINY = RandomCase(
    "a tiny volume", (24, 30, 28), (2.0, 1.5, 1.5), RandomModel((16, 16, 16), (2.0, 2.0, 2.0), (4, 8, 12), 4)
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BenchCase:
    return TINY.write("tiny", tmp_path_factory.mktemp("tiny"))


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
