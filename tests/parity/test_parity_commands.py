"""The reference against nnU-Net's own commands: it calls nnU-Net step by step, they are what people run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from images import read_labels
from oracle import Oracle
from random_model import DATASET
from subject import Subject
from subjects import CASCADE_AND_2D


def command(results: Path, name: str, *arguments: str | Path) -> None:
    """Run a command of nnU-Net's on the models in the folder `results`."""
    folders = dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), str(results))
    program = Path(sysconfig.get_path("scripts")) / name
    run = subprocess.run(
        [program, *arguments], env=os.environ | folders, capture_output=True, text=True, check=False, timeout=600
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("subject", [CASCADE_AND_2D])
def test_reference_gives_what_nnunets_commands_give(
    subject: Subject, folders: dict[Subject, Path], oracles: list[Oracle], tmp_path: Path
) -> None:
    folder = folders[subject]
    images, low, high, flat, mean = (tmp_path / name for name in ("images", "low", "high", "flat", "mean"))
    images.mkdir()
    shutil.copy(folder / "case_0000.nii.gz", images)
    predict = ["-i", images, "-d", DATASET, "-f", "0", "-npp", "0", "-nps", "0", "-device", "cpu", "--disable_tta"]
    kept = [*predict, "--save_probabilities"]
    command(folder, "nnUNetv2_predict", *predict, "-c", "3d_lowres", "-o", low)
    command(folder, "nnUNetv2_predict", *kept, "-c", "3d_cascade_fullres", "-o", high, "-prev_stage_predictions", low)
    command(folder, "nnUNetv2_predict", *kept, "-c", "2d", "-o", flat)
    command(folder, "nnUNetv2_ensemble", "-i", high, flat, "-o", mean, "-np", "1", "--save_npz")

    for oracle in oracles:
        oracle.wait_for(folder.name)
    for number, member in enumerate((high, flat)):
        with np.load(folder / f"float16-{number}.npz") as ours, np.load(member / "case.npz") as theirs:
            np.testing.assert_allclose(ours["probabilities"], theirs["probabilities"], atol=1e-6)
    labels = read_labels(mean / "case.nii.gz")
    assert np.bincount(labels.ravel()).min() > 0.05 * labels.size
    np.testing.assert_array_equal(subject.reference(folder, "float16"), labels)
