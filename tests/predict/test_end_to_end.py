"""From case to labels with an engine that names every voxel's intensity: each one must come back at its own place."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engines import FakeEngine, nearest_integer
from random_model import RandomModel

from napari_nnunet_cpu import Case, Run, Settings, load_model

pytestmark = pytest.mark.slow

AS_IT_IS: dict[str, Any] = {"normalization": "NoNormalization", "patch": (8, 8, 8)}


def image_with_margin(shape: tuple[int, int, int]) -> np.ndarray:
    """Intensities 0, 1 and 2 without any symmetry, and more zeros on one side of every axis than on the other."""
    image = np.zeros(shape, np.int16)
    z, y, x = shape
    image[3 : z - 1, 1 : y - 4, 2:x] = np.random.default_rng(0).integers(0, 3, (z - 4, y - 5, x - 2))
    image[3, 1, 2] = image[z - 2, y - 5, x - 1] = 1  # the corners, so that the crop is known
    return image


def labelled(case: Case, folder: Path, **options: Any) -> tuple[np.ndarray, Run]:
    model = load_model(RandomModel(**AS_IT_IS | options).write(folder))
    run = Run(case, model, Settings.exact(mirror=False), FakeEngine(nearest_integer))
    list(run.compute())
    return run.labels(), run


@pytest.mark.parametrize("transpose", list(permutations(range(3))))
def test_cropped_and_transposed(transpose: tuple[int, int, int], tmp_path: Path) -> None:
    image = image_with_margin((14, 17, 19))
    labels, run = labelled(Case(image[None], (1.0, 1.0, 1.0)), tmp_path, transpose=transpose)
    assert run.geometry.cropped_shape == tuple((10, 12, 17)[axis] for axis in transpose)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, image)


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_flipped_turned_and_transposed(
    signs: tuple[int, ...], axes: tuple[int, ...], transpose: tuple[int, int, int], tmp_path: Path
) -> None:
    image = image_with_margin((14, 17, 19))
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[list(axes)] * signs
    case = Case(image[None], (1.0, 1.0, 1.0), affine)
    labels, _ = labelled(case, tmp_path, transpose=transpose, reader="NibabelIOWithReorient")
    assert np.array_equal(labels, image)


def test_flat_model_on_a_stack(tmp_path: Path) -> None:
    image = image_with_margin((9, 17, 19))
    case = Case(image[None], (3.0, 1.0, 1.0))
    labels, run = labelled(case, tmp_path, patch=(8, 8), spacing=(1.0, 1.0))
    assert {tile.size for tile in run.tiles} == {(1, 8, 8)}
    assert np.array_equal(labels, image)


def test_flat_model_on_an_image(tmp_path: Path) -> None:
    image = image_with_margin((5, 17, 19))[3:4]
    case = Case(image[None], (999.0, 1.0, 1.0), planar=True)
    labels, _ = labelled(case, tmp_path, patch=(8, 8), spacing=(1.0, 1.0))
    assert np.array_equal(labels, image)


PLANES = [(7, 3.0, False, 0.003), (1, 3.0, False, 0.003), (1, 999.0, True, np.nan)]


@pytest.mark.parametrize(("slices", "distance", "planar", "voxel_ml"), PLANES, ids=["stack", "one slice", "2D image"])
def test_volumes_of_planes(slices: int, distance: float, planar: bool, voxel_ml: float, tmp_path: Path) -> None:
    """A 2d model measures volumes where slices have a distance, and counts voxels of an image without one."""
    image = np.random.default_rng(1).integers(0, 3, (slices, 11, 9))
    image[:, [0, -1], [0, -1]] = 1  # nothing is cropped
    case = Case(image[None], (distance, 0.5, 2.0), planar=planar)
    labels, run = labelled(case, tmp_path, patch=(8, 8), spacing=(0.5, 2.0))
    assert np.array_equal(labels, image)
    assert len(run.tiles) == slices * 4
    volumes = run.result().volumes()
    assert list(volumes) == ["liver", "kidney"]
    for value, name in enumerate(volumes, 1):
        voxels = int((image == value).sum())
        assert (volumes[name]["label"], volumes[name]["voxels"]) == (value, voxels)
        assert volumes[name]["ml"] == pytest.approx(voxels * voxel_ml, nan_ok=True)


def test_a_3d_model_takes_a_volume_of_one_slice(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 3, (1, 11, 9))
    image[:, [0, -1], [0, -1]] = 1
    labels, run = labelled(Case(image[None], (3.0, 1.0, 1.0)), tmp_path, spacing=(3.0, 1.0, 1.0))
    assert run.grid.padded == (8, 11, 9)
    assert np.array_equal(labels, image)


def test_resampled_blocks_come_back(tmp_path: Path) -> None:
    """Blocks much larger than the resampling's reach: their inner voxels keep their label at another spacing."""
    image = np.ones((20, 20, 20), np.int16)
    image[:10, :, :10] = 2
    case = Case(image[None], (1.0, 1.0, 1.0))
    labels, run = labelled(case, tmp_path, spacing=(1.25, 0.8, 1.6))
    assert run.geometry.shape == (16, 25, 12)
    inner = np.ones((20, 20, 20), bool)
    inner[8:12] = inner[:, :, 8:12] = False
    assert np.array_equal(labels[inner], image[inner])


def test_an_empty_image_is_background(tmp_path: Path) -> None:
    labels, _ = labelled(Case(np.zeros((1, 9, 9, 9)), (1.0, 1.0, 1.0)), tmp_path)
    assert not labels.any()


def test_read_only_channels_of_any_type(tmp_path: Path) -> None:
    image = image_with_margin((14, 17, 19)).astype(np.uint8)
    image.flags.writeable = False
    case = Case(image[None], (1.0, 1.0, 1.0))
    labels, run = labelled(case, tmp_path)
    assert np.array_equal(labels, image)
    other = replace(case, channels=image[None].astype(np.float64))
    again = Run(other, run.model, run.settings, FakeEngine(nearest_integer))
    list(again.compute())
    assert np.array_equal(again.labels(), image)
