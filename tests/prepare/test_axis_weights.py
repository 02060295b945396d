import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.transform import resize
from torch import from_numpy
from torch.nn.functional import interpolate

from napari_nnunet_cpu.prepare.axis_weights import axis_weights

lengths = st.integers(1, 300)
seeds = st.integers(0, 2**32 - 1)


@given(lengths, lengths)
def test_nearest_is_the_voxel_of_skimage_and_scipy(size: int, length: int) -> None:
    numbers = np.arange(size, dtype=np.float64)
    found = axis_weights(size, length, 0)
    expected = resize(numbers, (length,), order=0, mode="edge", anti_aliasing=False)
    assert np.array_equal(found.below, expected)
    position = size / length * (np.arange(length) + 0.5) - 0.5
    assert np.array_equal(found.below, map_coordinates(numbers, [position], order=0, mode="nearest"))
    assert np.array_equal(found.above, found.below)


@given(lengths, lengths, seeds)
def test_linear_equals_skimage(size: int, length: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=size)
    expected = resize(values, (length,), order=1, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(axis_weights(size, length, 1).apply(values, 0), expected, atol=1e-6)


@given(lengths, lengths)
def test_positions_are_torchs_where_torch_resamples(size: int, length: int) -> None:
    numbers = np.arange(size, dtype=np.float32)
    image = from_numpy(numbers)[None, None]
    nearest = interpolate(image, (length,), mode="nearest-exact")[0, 0].numpy()
    assert np.array_equal(axis_weights(size, length, 0, as_torch=True).below, nearest)
    linear = interpolate(image, (length,), mode="linear")[0, 0].numpy()
    np.testing.assert_allclose(axis_weights(size, length, 1, as_torch=True).apply(numbers, 0), linear, rtol=1e-7)


def test_half_way_torch_and_ndimage_round_their_own_way() -> None:
    """Voxel 24 of 49 lies half-way between the two of the source; in float64 its position falls just before."""
    assert axis_weights(2, 49, 0).below[24] == 0
    assert axis_weights(2, 49, 0, as_torch=True).below[24] == 1


@given(lengths, lengths, st.booleans())
def test_a_voxel_without_weight_is_not_looked_at(size: int, length: int, as_torch: bool) -> None:
    weights = axis_weights(size, length, 1, as_torch)
    assert (weights.below >= 0).all()
    assert (weights.above < size).all()
    assert np.array_equal(weights.above - weights.below, weights.share > 0)
    assert (np.diff(weights.below) >= 0).all()
    assert (np.diff(weights.above) >= 0).all()


def test_the_same_length_is_no_blend() -> None:
    for order in (0, 1):
        weights = axis_weights(7, 7, order)
        assert weights.below.tolist() == weights.above.tolist() == list(range(7))


@given(lengths, lengths, seeds, st.floats(1e-6, 1e6))
def test_what_is_larger_everywhere_stays_at_least_as_large(size: int, length: int, seed: int, scale: float) -> None:
    """Even where it is larger by the last bit alone: what all corners agree on must hold in between."""
    low = (np.random.default_rng(seed).normal(size=size) * scale).astype(np.float32)
    high = np.nextafter(low, np.float32(np.inf))
    weights = axis_weights(size, length, 1)
    assert (weights.apply(high, 0) >= weights.apply(low, 0)).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_some_voxels_of_any_axis(axis: int) -> None:
    array = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    weights = axis_weights(array.shape[axis], 11, 1)
    whole = weights.apply(array, axis)
    chosen = np.array([2, 3, 9])
    assert np.array_equal(weights[chosen].apply(array, axis), whole.take(chosen, axis))
    assert np.array_equal(weights[3:5].apply(array, axis), whole.take([3, 4], axis))
    padded = np.concatenate([np.full_like(array, np.nan), array], axis)
    assert np.array_equal(weights.moved(array.shape[axis]).apply(padded, axis), whole)
