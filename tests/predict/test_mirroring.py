import tracemalloc
from itertools import count

import numpy as np
import pytest
from fake_engines import FakeEngine

from napari_nnunet_cpu.predict.passes.mirroring import mean_output, mirror_combinations

PATCH = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
PLACE = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


def never() -> bool:
    return False


def marks_places(patch: np.ndarray, _fold: int) -> np.ndarray:
    """A network that looks different from every side."""
    return np.stack([patch[0] * PLACE, patch[1] + PLACE**2])


def all_flips(array: np.ndarray, axes: tuple[int, ...]) -> list[np.ndarray]:
    """The array and all its mirror images, one axis after the other."""
    images = [array]
    for axis in axes:
        images += [np.flip(image, axis) for image in images]
    return images


def test_combinations_and_their_order() -> None:
    assert mirror_combinations(()) == ((),)
    assert mirror_combinations((0, 1, 2)) == ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
    assert mirror_combinations((2, 0)) == ((), (2,), (0,), (2, 0))


@pytest.mark.parametrize("axes", [(), (0,), (2,), (0, 2), (1, 0), (0, 1, 2)])
def test_mean_over_all_flips(axes: tuple[int, ...]) -> None:
    found = mean_output(FakeEngine(marks_places), PATCH, axes, never)
    # Flipping back what was computed on the flipped patch is computing on the patch with flipped marks.
    expected = np.stack([
        PATCH[0] * np.mean(all_flips(PLACE, axes), axis=0),
        PATCH[1] + np.mean(all_flips(PLACE**2, axes), axis=0),
    ])  # fmt: skip
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_passes_come_in_order() -> None:
    engine = FakeEngine(marks_places, folds=2)
    mean_output(engine, PATCH, (0, 2), never)
    assert [fold for fold, _ in engine.calls] == [0, 0, 0, 0, 1, 1, 1, 1]
    for (_, patch), axes in zip(engine.calls, [(), (1,), (3,), (1, 3)] * 2, strict=True):
        assert np.array_equal(patch, np.flip(PATCH, axes))


def test_folds_are_averaged() -> None:
    engine = FakeEngine(lambda patch, fold: patch[:1] + [0.0, 3.0, 9.0][fold], folds=3)
    found = mean_output(engine, PATCH, (1,), never)
    np.testing.assert_allclose(found, PATCH[:1] + 4, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("passes", range(7))
def test_stops_between_passes(passes: int) -> None:
    engine = FakeEngine(marks_places, folds=2)
    asked = count()
    assert mean_output(engine, PATCH, (0, 1), lambda: next(asked) == passes) is None
    assert len(engine.calls) == passes


def test_engine_may_overwrite_what_it_gave() -> None:
    buffer = np.empty((2, 3, 4, 5), np.float32)

    def compute(patch: np.ndarray, fold: int) -> np.ndarray:
        buffer[:] = marks_places(patch, fold)
        return buffer

    engine = FakeEngine(compute)
    found = mean_output(engine, PATCH, (0, 1, 2), never)
    expected = mean_output(FakeEngine(marks_places), PATCH, (0, 1, 2), never)
    assert np.array_equal(found, expected)
    assert not np.shares_memory(found, buffer)
    once = mean_output(engine, PATCH, (), never)
    assert np.shares_memory(once, buffer)  # of one pass it is as the engine gave it
    assert np.array_equal(once, marks_places(PATCH, 0))


def test_the_patch_is_left_alone() -> None:
    patch = PATCH.copy()
    mean_output(FakeEngine(marks_places), patch, (0, 1, 2), never)
    assert np.array_equal(patch, PATCH)


def test_folds_and_mirror_images_are_added_in_place() -> None:
    patch = np.random.default_rng(1).normal(size=(1, 32, 32, 32)).astype(np.float32)
    logits = np.ones((20, 32, 32, 32), np.float32)

    class Constant(FakeEngine):
        def forward(self, patch: np.ndarray, fold: int) -> np.ndarray:
            return logits

    engine = Constant(marks_places, folds=3)
    tracemalloc.start()
    try:
        found = mean_output(engine, patch, (0, 1, 2), never)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found == 1).all()
    assert peak < 1.2 * found.nbytes
