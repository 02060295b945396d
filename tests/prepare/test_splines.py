import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import resize

from napari_nnunet_cpu.prepare.splines import bands, spline_along_last

orders = pytest.mark.parametrize("order", [2, 3, 4, 5])
lengths = st.one_of(st.integers(1, 5), st.integers(1, 400))


def matrix(size: int, length: int, order: int) -> np.ndarray:
    found = np.zeros((length, size))
    for band in bands(size, length, order):
        found[band.rows, band.columns] = band.weights
    return found


@orders
@given(lengths, lengths)
def test_the_matrix_is_what_skimage_does_to_every_voxel_alone(order: int, size: int, length: int) -> None:
    expected = resize(np.eye(size), (length, size), order=order, mode="edge", anti_aliasing=False, clip=False)
    np.testing.assert_allclose(matrix(size, length, order), expected, atol=1e-7)


@orders
def test_it_is_a_band(order: int) -> None:
    found = bands(3000, 3100, order)
    assert sum(band.weights.size for band in found) < 0.05 * 3000 * 3100
    assert [row for band in found for row in range(3100)[band.rows]] == list(range(3100))
    np.testing.assert_allclose(np.concatenate([band.weights.sum(axis=1) for band in found]), 1, atol=1e-6)


@orders
@given(st.tuples(st.integers(1, 5), st.integers(1, 90)), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_the_last_axis_comes_first(order: int, shape: tuple[int, int], length: int, seed: int) -> None:
    array = np.random.default_rng(seed).normal(size=(3, *shape)).astype(np.float32)
    found = spline_along_last(array, length, order)
    assert found.shape == (length, 3, shape[0])
    assert found.dtype == np.float32
    wanted = (3, shape[0], length)
    expected = resize(array.astype(np.float64), wanted, order=order, mode="edge", anti_aliasing=False, clip=False)
    np.testing.assert_allclose(found, np.moveaxis(expected, -1, 0), atol=1e-5)
