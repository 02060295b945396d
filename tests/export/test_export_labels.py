import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_model import RandomModel
from skimage.transform import resize

from napari_nnunet_cpu import TrainedModel, load_model
from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.export import Logits, LogitsOf, ProbabilityExport, export_box, label_export, linear
from napari_nnunet_cpu.export.spline_labels import SplineExport
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.prepare.geometry import AxisOrder

Triple = tuple[int, int, int]
MILLIMETRES = (1.0, 1.0, 1.0)


def whole(shape: Triple, resampled: Triple | None = None) -> Geometry:
    """Nothing turned or cropped; resampled from `shape` where another one is given."""
    return Geometry(AxisOrder(), shape, Box.whole(shape), MILLIMETRES, resampled or shape, MILLIMETRES)


def model_of(folder: Path, **options: Any) -> TrainedModel:
    return load_model(RandomModel(patch=(8, 8, 8), **options).write(folder))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return model_of(tmp_path_factory.mktemp("three"))


def exported(logits: Any, model: TrainedModel, geometry: Geometry) -> np.ndarray:
    array = np.asarray(logits, np.float32)
    return exported_boxes(lambda box: Logits(array[:, *box.slices]), model, geometry)


def exported_boxes(logits: LogitsOf, model: TrainedModel, geometry: Geometry) -> np.ndarray:
    result = np.zeros(geometry.case_shape, model.labels.dtype)
    kept = geometry.crop(result)
    export_box(label_export(model, geometry, threads=2), logits, kept, Box.whole(kept.shape))
    return result


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
        AxisOrder((1, 2, 0), (True, False, False)), (4, 5, 6), Box((1, 3), (0, 2), (5, 6)),
        MILLIMETRES, (2, 2, 1), MILLIMETRES,
    )  # fmt: skip
    logits = np.zeros((3, 2, 2, 1))
    logits[1, 0] = logits[2, 1] = 1
    found = exported(logits, three, geometry)
    expected = np.zeros((6, 4, 5), np.uint8)  # model's axes are the case's (y backwards, x, z)
    expected[5, 2, 0:2] = 1
    expected[5, 1, 0:2] = 2
    assert np.array_equal(found, expected)


def test_slabs_come_to_lie_where_they_belong(three: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    order = AxisOrder((1, 2, 0), (True, False, True))
    box = Box((1, 10), (0, 8), (3, 10))
    geometry = Geometry(order, (11, 8, 12), box, MILLIMETRES, (5, 6, 7), MILLIMETRES)
    logits = np.random.default_rng(6).normal(size=(3, 5, 6, 7))
    expected = exported(logits, three, geometry)
    asked = []

    def part(box: Box) -> Logits:
        asked.append(box[0][1] - box[0][0])
        return Logits(logits[:, *box.slices].astype(np.float32))

    monkeypatch.setattr(linear, "SLAB_LOGITS", 3 * 6 * 7)
    assert np.array_equal(exported_boxes(part, three, geometry), expected)
    assert len(asked) == 9
    assert max(asked) == 2


@pytest.mark.parametrize("case", [(13, 10, 9), (7, 6, 5), (5, 6, 7), (5, 12, 7)])
def test_the_plans_say_how_logits_are_resampled(case: Triple, tmp_path: Path) -> None:
    """A spline of order 3 where they want one, which leaves the line between two voxels."""
    model = model_of(tmp_path, resampling_options={"probabilities": {"order": 3}})
    logits = np.random.default_rng(1).normal(size=(3, 5, 6, 7))
    geometry = whole(case, (5, 6, 7))
    assert isinstance(label_export(model, geometry, threads=1), SplineExport) == (case != (5, 6, 7))
    smooth = [resize(head, case, order=3, mode="edge", anti_aliasing=False) for head in logits]
    assert np.array_equal(exported(logits, model, geometry), np.argmax(smooth, axis=0))


def test_plans_that_do_not_lead_back_are_refused(three: TrainedModel) -> None:
    one_way = three.configuration.model_copy(update={"resampling_fn_probabilities": "no_resampling_hack"})
    model = replace(three, configuration=one_way)
    logits = np.random.default_rng(2).normal(size=(3, 5, 6, 7))
    assert np.array_equal(exported(logits, model, whole((5, 6, 7))), logits.argmax(axis=0))
    there = whole((8, 9, 10), (5, 6, 7))
    for make in (lambda: label_export(model, there, threads=1), lambda: ProbabilityExport(model, there)):
        with pytest.raises(ModelError, match=r"the plans resample images .* but not logits \(no_resampling_hack\)"):
            make()


@pytest.mark.parametrize("prepared", [(48, 40, 40), (30, 60, 50)])
def test_memory_does_not_grow_with_the_classes(prepared: Triple, tmp_path: Path) -> None:
    """Of 64 heads there is never an array of (classes, image)."""
    names = {"background": 0} | {f"label {value}": value for value in range(1, 64)}
    model = model_of(tmp_path, labels=names)
    geometry = whole((48, 40, 40), prepared)
    heads = np.random.default_rng(4).normal(size=(64, *prepared)).astype(np.float32)
    rows = heads[:, :1].repeat(prepared[0], axis=1)  # the same everywhere along the first axis
    exported(rows, model, geometry)  # so that what is only made once is there
    tracemalloc.start()
    try:
        labels = exported(rows, model, geometry)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (labels == labels[0]).all()
    assert len(np.unique(labels)) == 64
    assert peak < 64 * 48 * 40 * 40
