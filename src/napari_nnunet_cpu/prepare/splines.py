"""Spline interpolation of orders 2 to 5 along one axis, as a product with a banded matrix.

A spline of such an order is a recursive filter and an interpolation. Both are linear and work axis by axis,
so that together they are one matrix per axis, which the machine multiplies with on all its cores. The filter
forgets: a voxel feels nothing of what is farther away than `_REACH`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

Array = npt.NDArray[np.float32]

# Of what happens so many voxels away the slowest of these splines, that of order 5, keeps 0.431 ** 24 = 2e-9.
_REACH = 24
_ROWS = 64


@dataclass(frozen=True, eq=False)
class Band:
    """Some neighbouring rows of the matrix, where they are not zero.

    Attributes
    ----------
    rows : slice
        Voxels of the resampled axis.
    columns : slice
        Voxels of the source that they are made of.
    weights : numpy.ndarray
        Shape (rows, columns), float32.
    """

    rows: slice
    columns: slice
    weights: Array


@lru_cache(maxsize=32)
def bands(size: int, length: int, order: int) -> tuple[Band, ...]:
    """The matrix of an axis of `size` voxels resampled to `length`; centres aligned, edges continued."""
    position = size / length * (np.arange(length) + 0.5) - 0.5
    found = []
    for start in range(0, length, _ROWS):
        part = position[start : start + _ROWS]
        low = max(int(part[0]) - _REACH, 0)
        high = min(int(part[-1]) + _REACH + 2, size)
        # ndimage's answer to every voxel alone: what it does at the edges is part of nnU-Net's result
        grid = np.meshgrid(part - low, np.arange(high - low), indexing="ij")
        weights = map_coordinates(np.eye(high - low), grid, order=order, mode="nearest").astype(np.float32)
        found.append(Band(slice(start, start + len(part)), slice(low, high), weights))
    return tuple(found)


def spline_along_last(array: Array, length: int, order: int) -> Array:
    """Resample the last axis, which then comes first.

    Turning the axes makes every product one of two large matrices, whichever axis it is about.

    Parameters
    ----------
    array : numpy.ndarray
        Any number of axes, float32.
    length : int
        Voxels wanted of the last axis.
    order : int
        2 to 5.

    Returns
    -------
    numpy.ndarray
        Shape (length, *array.shape[:-1]), float32; a view where there is nothing to do.
    """
    size = array.shape[-1]
    if size == length:
        return np.moveaxis(array, -1, 0)
    lines = array.reshape(-1, size)
    result = np.empty((length, len(lines)), dtype=np.float32)
    for band in bands(size, length, order):
        np.matmul(band.weights, lines[:, band.columns].T, out=result[band.rows])
    return result.reshape(length, *array.shape[:-1])
