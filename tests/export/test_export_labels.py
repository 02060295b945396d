import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_model import RandomModel
from skimage.transform import resize

from napari_nnunet_cpu import TrainedModel, load_model
from napari_nnunet_cpu.export import export_labels
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.prepare.geometry import AxisOrder

Triple = tuple[int, int, int]
MILLIMETRES = (1.0, 1.0, 1.0)


def whole(shape: Triple, resampled: Triple | None = None) -> Geometry:
    """Nothing turned or cropped; resampled from `shape` where another one is given."""
    z, y, x = shape
    box = (slice(0, z), slice(0, y), slice(0, x))
    return Geometry(AxisOrder(), shape, box, MILLIMETRES, resampled or shape, MILLIMETRES)


def model_of(folder: Path, **options: Any) -> TrainedModel:
    return load_model(RandomModel(patch=(8, 8, 8), **options).write(folder))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return model_of(tmp_path_factory.mktemp("three"))


def exported(logits: Any, model: TrainedModel, geometry: Geometry) -> np.ndarray:
    array = np.asarray(logits, np.float32)
    return export_labels(lambda head: array[head].copy(), model, geometry)


@given(st.integers(0, 2**32 - 1))
def test_the_largest_head_wins(three: TrainedModel, seed: int) -> None:
    logits = np.random.default_rng(seed).integers(-2, 3, (3, 2, 3, 4))  # few values: ties everywhere
    found = exported(logits, three, whole((2, 3, 4)))
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.argmax(logits, axis=0))


def test_of_equal_heads_the_first_wins(three: TrainedModel) -> None:
    heads = [[0, 1, 1, 0, 2], [0, 1, 0, 3, 2], [0, 0, 1, 3, 2]]
    found = exported(np.reshape(heads, (3, 1, 1, 5)), three, whole((1, 1, 5)))
    assert found.ravel().tolist() == [0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([1, 2, 3], [0, 1, 2, 3, 3, 3, 2, 0]),
        ([3, 1, 2], [0, 3, 1, 2, 2, 2, 1, 0]),
    ],
)
def test_later_regions_paint_over_earlier_ones(order: list[int], expected: list[int], tmp_path: Path) -> None:
    regions = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    model = model_of(tmp_path, labels=regions, regions_class_order=order)
    heads = [[-1, 1, 1, 1, -1, -1, 0, 0], [-1, -1, 1, 1, -1, 1, 1, 0], [-1, -1, -1, 1, 1, 1, -1, 0]]
    found = exported(np.reshape(heads, (3, 1, 1, 8)), model, whole((1, 1, 8)))
    assert found.ravel().tolist() == expected


def test_more_than_255_labels_need_16_bits(tmp_path: Path) -> None:
    names = {"background": 0} | {f"label {value}": value for value in range(1, 256)}
    model = model_of(tmp_path, labels=names)
    logits = np.zeros((256, 1, 1, 2))
    logits[255, 0, 0, 0] = logits[254, 0, 0, 1] = 1
    found = exported(logits, model, whole((1, 1, 2)))
    assert found.dtype == np.uint16
    assert found.ravel().tolist() == [255, 254]


def test_254_labels_fit_8_bits(tmp_path: Path) -> None:
    names = {"background": 0} | {f"label {value}": value for value in range(1, 255)}
    model = model_of(tmp_path, labels=names)
    logits = np.zeros((255, 1, 1, 1))
    logits[254] = 1
    found = exported(logits, model, whole((1, 1, 1)))
    assert (found.dtype, found.item()) == (np.uint8, 254)


def test_logits_are_resampled_before_the_decision(three: TrainedModel) -> None:
    logits = np.random.default_rng(0).normal(size=(3, 5, 6, 7))
    found = exported(logits, three, whole((8, 9, 10), (5, 6, 7)))
    smooth = [resize(head, (8, 9, 10), order=1, mode="edge", anti_aliasing=False) for head in logits]
    assert np.array_equal(found, np.argmax(smooth, axis=0))
    nearest = [resize(head, (8, 9, 10), order=0, mode="edge", anti_aliasing=False) for head in logits]
    assert not np.array_equal(found, np.argmax(nearest, axis=0))


def test_what_was_cropped_away_is_background(three: TrainedModel) -> None:
    geometry = Geometry(
        AxisOrder((1, 2, 0), (True, False, False)), (4, 5, 6), (slice(1, 3), slice(0, 2), slice(5, 6)),
        MILLIMETRES, (2, 2, 1), MILLIMETRES,
    )  # fmt: skip
    logits = np.zeros((3, 2, 2, 1))
    logits[1, 0] = logits[2, 1] = 1
    found = exported(logits, three, geometry)
    expected = np.zeros((6, 4, 5), np.uint8)  # model's axes are the case's (y backwards, x, z)
    expected[5, 2, 0:2] = 1
    expected[5, 1, 0:2] = 2
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("resampled", [None, (20, 30, 25)])
def test_memory_does_not_grow_with_the_classes(resampled: Triple | None, tmp_path: Path) -> None:
    """Of 64 heads a handful of volumes is in memory at a time, never (classes, image)."""
    names = {"background": 0} | {f"label {value}": value for value in range(1, 64)}
    model = model_of(tmp_path, labels=names)
    geometry = whole((24, 24, 24), resampled)
    calls: list[int] = []

    def head_logits(head: int) -> np.ndarray:
        calls.append(head)
        return np.full(geometry.shape, head % 7, np.float32)

    export_labels(head_logits, model, geometry)  # so that what is only made once is there
    calls.clear()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        labels = export_labels(head_logits, model, geometry)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert calls == list(range(64))
    assert (labels == 6).all()
    volume = 4 * max(24**3, int(np.prod(geometry.shape)))
    assert peak - before < 10 * volume
