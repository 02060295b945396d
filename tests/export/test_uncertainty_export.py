"""Uncertainty is what its definition says, computed another way on small arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_model import RandomModel
from scipy.special import expit, softmax

from napari_nnunet_cpu import TrainedModel, load_model
from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.export import Logits, ScratchArray, UncertaintyExport, uncertainty_of_probabilities
from napari_nnunet_cpu.export import uncertainty as uncertainty_module
from napari_nnunet_cpu.export.uncertainty_measures import measure_of
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.prepare.geometry import AxisOrder

pytestmark = pytest.mark.slow

REGIONS = {"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3}, "regions_class_order": [3, 1, 2]}
MM = (1.0, 1.0, 1.0)
SEEDS = st.integers(0, 2**32 - 1)
KINDS = ("margin", "entropy")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    splines = {"resampling_options": {"probabilities": {"order": 3}}}
    made = {"labels": {}, "regions": REGIONS, "splines": splines}
    return {
        name: load_model(RandomModel(patch=(8, 8, 8), **options).write(tmp_path_factory.mktemp(name)))
        for name, options in made.items()
    }


def brute_force(kind: str, logits: np.ndarray, regions: bool) -> np.ndarray:
    """The definitions, in float64, from all probabilities (heads, ...) at once."""
    if regions:
        p = expit(logits.astype(float))
        if kind == "margin":
            return (1 - np.abs(2 * p - 1)).max(axis=0)
        both = np.stack([p, expit(-logits.astype(float))])
        return -(both * np.log2(np.maximum(both, 1e-300))).sum(axis=0).mean(axis=0)
    p = softmax(logits.astype(float), axis=0)
    if kind == "margin":
        ordered = np.sort(p, axis=0)
        return 1 - (ordered[-1] - ordered[-2])
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=0) / np.log(len(p))


def measured(kind: str, model: TrainedModel, logits: np.ndarray) -> np.ndarray:
    measure = measure_of(kind, model.labels, logits.shape[1:])
    for head in logits:
        measure.show(head)
    return measure.value()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["labels", "regions"])
@given(SEEDS, st.sampled_from([0.1, 3.0, 40.0, 1000.0]))
def test_measures_are_their_definitions(
    name: str, kind: str, models: dict[str, TrainedModel], seed: int, spread: float
) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, (3, 4, 5, 6)).astype(np.float32)
    found = measured(kind, models[name], logits)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert (found <= 1).all()
    np.testing.assert_allclose(found, brute_force(kind, logits, name == "regions"), atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@given(st.floats(-80, 80, width=32))
def test_equal_heads_are_all_uncertainty_and_a_sure_one_is_none(
    kind: str, models: dict[str, TrainedModel], level: float
) -> None:
    equal = np.full((3, 1, 1, 2), level, np.float32)
    np.testing.assert_allclose(measured(kind, models["labels"], equal), 1, atol=1e-6)
    for sure in range(3):
        one = equal.copy()
        one[sure] += 200
        assert (measured(kind, models["labels"], one) == 0).all()
    zero = np.zeros((3, 1, 1, 2), np.float32)
    np.testing.assert_allclose(measured(kind, models["regions"], zero), 1, atol=1e-6)
    assert (measured(kind, models["regions"], zero - 200) == 0).all()
    assert (measured(kind, models["regions"], zero + 200) == 0).all()


def cropped(shape: tuple[int, int, int]) -> Geometry:
    """A prepared image of this shape, from a part (6, 7, 9) of an image whose axes are turned."""
    box = Box((1, 7), (0, 7), (2, 11))
    mm = tuple(new / old for new, old in zip((6, 7, 9), shape, strict=True))
    return Geometry(AxisOrder((2, 0, 1), (True, False, True)), (8, 8, 12), box, MM, shape, mm)


@pytest.mark.parametrize("kind", [*KINDS, "disagreement"])
@pytest.mark.parametrize("name", ["labels", "regions", "splines"])
@given(SEEDS, st.integers(1, 6), st.integers(1, 7), st.integers(1, 40), st.integers(1, 3))
def test_however_the_image_is_cut(
    name: str, kind: str, models: dict[str, TrainedModel], seed: int, z: int, y: int, strip: int, threads: int
) -> None:
    """Every box of it, in strips of any size, on any number of threads: bit for bit."""
    geometry = cropped((5, 9, 7))
    heads = np.random.default_rng(seed).normal(0, 3, (1 if kind == "disagreement" else 3, 5, 9, 7)).astype(np.float32)
    heads = expit(heads) if kind == "disagreement" else heads
    export = UncertaintyExport(kind, models[name], geometry, threads)

    def part(box: Box) -> Logits:
        return Logits(heads[:, *box.slices])

    expected = np.zeros((6, 7, 9), np.float32)
    export.export(part, expected, Box.whole((6, 7, 9)))
    found = np.full((6, 7, 9), -1, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncertainty_module, "_STRIP_VOXELS", strip)
        for rows in ((0, z), (z, 6)):
            for lines in ((0, y), (y, 7)):
                if rows[0] < rows[1] and lines[0] < lines[1]:
                    export.export(part, found, Box(rows, lines, (0, 9)))
    assert np.array_equal(found, expected)
    resampled = np.stack([export._resampled.apply(head, Box.whole((6, 7, 9))) for head in heads])
    wanted = resampled[0].clip(0, 1) if kind == "disagreement" else brute_force(kind, resampled, name == "regions")
    np.testing.assert_allclose(expected, wanted, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["labels", "regions"])
def test_from_probabilities(name: str, kind: str, models: dict[str, TrainedModel]) -> None:
    """Also where these are 0 and 1."""
    logits = np.random.default_rng(1).normal(0, 5, (3, 20, 6, 5)).astype(np.float32)
    store = ScratchArray(logits.shape, on_disk=False)
    store.array[...] = expit(logits) if name == "regions" else softmax(logits, axis=0)
    store.array[:, 3] = 0
    store.array[0, 4] = 1
    store.array[1:, 4] = 0
    if name == "labels":
        store.array[0, 3] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncertainty_module, "_STRIP_VOXELS", 100)
        found = uncertainty_of_probabilities(store, models[name].labels, kind)
    expected = brute_force(kind, logits, name == "regions")
    expected[3:5] = 0
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (found[3:5] == 0).all()


@given(st.tuples(*[st.integers(1, 300)] * 3), st.integers(1, 4))
def test_memory_does_not_grow_with_the_image(
    models: dict[str, TrainedModel], shape: tuple[int, int, int], threads: int
) -> None:
    geometry = Geometry(AxisOrder(), shape, Box.whole(shape), MM, shape, MM)
    found = UncertaintyExport("margin", models["labels"], geometry, threads).working_bytes
    assert found <= threads * 4 * uncertainty_module._ARRAYS * uncertainty_module._STRIP_VOXELS
