"""nnU-Net accepts the raw datasets that are written here, and reads from them what was put in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.cases.case import SpacingSource, planar_spacing
from napari_nnunet_cpu.cases.raw_dataset import RawDataset

PROGRAM = Path(__file__).with_name("verify.py")
ORGANS = {"background": 0, "liver": 1, "kidney": 2, "ignore": 3}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
OBLIQUE = np.array([[0, 0.35, -1.92, 9], [1, 0, 0, -4], [0, -1.2, -0.56, 3], [0, 0, 0, 1.0]])
SHEARED = np.array([[1, 0.0005, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])


def volume(affine: np.ndarray, seed: int) -> Case:
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    values = np.random.default_rng(seed).normal(size=(2, 5, 6, 7)).astype(np.float32)
    return Case(values, (z, y, x), affine, "patient")


def plane(source: SpacingSource, seed: int) -> Case:
    values = np.random.default_rng(seed).integers(0, 255, (2, 1, 9, 3), np.uint8)
    return Case(values, planar_spacing((0.5, 0.5)), None, "slide", source, planar=True)


@pytest.mark.parametrize(
    ("cases", "values", "order", "reader"),
    [
        ([volume(OBLIQUE, 0), volume(np.diag([1.0, 1.0, 3.0, 1.0]), 1)], REGIONS, (1, 2, 3), "SimpleITKIO"),
        ([volume(OBLIQUE, 0), volume(SHEARED, 1)], ORGANS, None, "NibabelIO"),
        ([plane(SpacingSource.PIXEL_SIZE, 0), plane(SpacingSource.PIXEL_SIZE, 1)], ORGANS, None, "NaturalImage2DIO"),
        ([plane(SpacingSource.STATED, 0), plane(SpacingSource.STATED, 1)], ORGANS, None, "SimpleITKIO"),
    ],
    ids=["volumes-regions", "sheared", "planes", "planes-in-mm"],
)
def test_nnunet_trains_on_what_was_saved(tmp_path, cases, values, order, reader) -> None:
    dataset = RawDataset(tmp_path / "Dataset500_session")
    saved = {}
    for seed, case in enumerate(cases):
        labels = np.random.default_rng(seed).integers(0, 4, case.shape)
        labels.ravel()[:4] = range(4)
        dataset.add(case, labels[::-1], ["T1", "T2"], values, order)
        saved[dataset.add(case, labels, ["T1", "T2"], values, order)] = case, labels
    assert len(saved) == 2
    run = subprocess.run(
        [sys.executable, PROGRAM, dataset.folder], capture_output=True, text=True, check=False, timeout=250
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Warning" not in run.stdout
    for identifier, (case, labels) in saved.items():
        with np.load(tmp_path / f"{identifier}.npz") as read:
            np.testing.assert_array_equal(read["image"], case.channels)
            np.testing.assert_array_equal(read["labels"][0], labels)
            by_voxel = reader == "NaturalImage2DIO"
            expected = (999, 1, 1) if by_voxel else case.spacing_mm
            np.testing.assert_allclose(read["spacing"], expected, rtol=1e-5)
            assert read["reader"] == reader
