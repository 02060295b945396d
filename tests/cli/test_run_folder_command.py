"""A part, and a run that goes on where another process was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu.predict.resume.saved_runs import saved_runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with small patches, so that there are many tiles."""
    return RandomModel(patch=(8, 8, 8)).write(tmp_path_factory.mktemp("small"))


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume_0000.nii.gz"
    nib.save(nib.Nifti1Image(smooth_image((40, 24, 24))[0].T, np.eye(4)), path)
    return path


def labels_in(path: Path | str) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj).T


def test_a_box_is_the_whole_run_inside(nnunet, small, volume):
    options = ["-m", small, "--preset", "fast", "--engine", "torch"]
    assert nnunet("segment", volume, *options, "-o", "whole.nii.gz").exit_code == 0
    done = nnunet("segment", volume, *options, "-o", "part.nii.gz", "--box", "10:20, 4:15, 0:9", "--json")
    assert done.exit_code == 0
    whole, part = labels_in("whole.nii.gz"), labels_in("part.nii.gz")
    box = np.s_[10:20, 4:15, 0:9]
    assert np.array_equal(part[box], whole[box])
    assert part[box].any()
    part[box] = 0
    assert not part.any()
    document = json.loads(done.stdout)
    assert document["settings"]["box"] == [[10, 20], [4, 15], [0, 9]]
    assert document["tiles"] < 9 * 5 * 5


@pytest.mark.parametrize(
    ("box", "code", "message"),
    [
        ("10:20,4:15", 2, "write start:stop along Z, Y and X"),
        ("20:10,0:1,0:1", 2, "write start:stop"),
        ("0:41,0:1,0:1", 2, "exceeds the image, whose shape is (40, 24, 24)"),
    ],
)
def test_a_box_that_is_none(nnunet, small, volume, box, code, message):
    done = nnunet("segment", volume, "-m", small, "-o", "o.nii.gz", "--box", box)
    assert done.exit_code == code
    assert message in done.stderr
    assert not Path("o.nii.gz").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_half_way_and_called_again(nnunet, small, volume, tmp_path):
    """The command of the user in a process of its own, killed when half of the tiles are saved."""
    options = ["-m", str(small), "--preset", "fast", "--engine", "torch", "--threads", "1"]
    assert nnunet("segment", volume, *options, "-o", "undisturbed.nii.gz").exit_code == 0
    runs, out = tmp_path / "runs", tmp_path / "o.nii.gz"
    command = [sys.executable, "-c", _SLOW, "segment", str(volume), *options, "-o", str(out), "--run-folder", str(runs)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"TILES": "100"})
    while b"!" not in process.stderr.readline():  # so many tiles are done, and it waits
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    (saved,) = saved_runs(runs)
    row = 25
    assert 100 - row <= saved.tiles_done <= 100
    assert saved.tiles == 9 * row
    assert not out.exists()

    done = nnunet("segment", volume, *options, "-o", out, "--run-folder", runs, "--json")
    assert done.exit_code == 0
    (record,) = json.loads(done.stdout)["runs"]
    assert record["tiles_resumed"] == saved.tiles_done
    assert record["tiles_done"] == record["tiles"] == 9 * row
    assert np.array_equal(labels_in(out), labels_in("undisturbed.nii.gz"))
    assert list(runs.iterdir()) == []


# The command, which writes "!" after so many tiles and then waits to be killed.
_SLOW = """
import os, sys, threading
from napari_nnunet_cpu.engines.torch_engine import TorchEngine
from napari_nnunet_cpu.cli import main
passes, forward = [], TorchEngine.forward
def counted(self, *arguments):
    if len(passes) == int(os.environ["TILES"]):
        os.write(2, b"!\\n")
        threading.Event().wait()
    passes.append(1)
    return forward(self, *arguments)
TorchEngine.forward = counted
main()
"""
