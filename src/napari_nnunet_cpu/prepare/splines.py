"""Spline interpolation of orders 2 to 5 along one axis, as a product with a banded matrix.

A spline of such an order is a recursive filter followed by interpolation. Both are linear and separable, so
one matrix per axis does both, and the product uses all cores. The matrix is banded, because the filter decays:
voxels farther away than `_REACH` have no influence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

Array = npt.NDArray[np.float32]

# At this distance the filter of order 5, the slowest to decay, has decayed to 0.431 ** 24 = 2e-9.
_REACH = 24
_ROWS = 64


@dataclass(frozen=True, eq=False)
class Band:
    """The nonzero part of some neighbouring rows of the matrix."""

    rows: slice  # voxels of the resampled axis
    columns: slice  # voxels of the source axis with nonzero weights
    weights: Array  # shape (rows, columns)


@lru_cache(maxsize=32)
def bands(size: int, length: int, order: int) -> tuple[Band, ...]:
    """The matrix to resample an axis of `size` voxels to `length`, with centres aligned and edges extended."""
    position = size / length * (np.arange(length) + 0.5) - 0.5
    found = []
    for start in range(0, length, _ROWS):
        part = position[start : start + _ROWS]
        low = max(int(part[0]) - _REACH, 0)
        high = min(int(part[-1]) + _REACH + 2, size)
        # From ndimage's response to each single voxel, because its treatment of edges is part of nnU-Net's result.
        grid = np.meshgrid(part - low, np.arange(high - low), indexing="ij")
        weights = map_coordinates(np.eye(high - low), grid, order=order, mode="nearest").astype(np.float32)
        found.append(Band(slice(start, start + len(part)), slice(low, high), weights))
    return tuple(found)


def spline_along_last(array: Array, length: int, order: int) -> Array:
    """Resample the last axis of an array (float32) with a spline of order 2 to 5, and move it to the front.

    Returns shape (length, *array.shape[:-1]), float32; a view if the axis has this length already. Moving the axis
    makes each product one of two large matrices, whichever axis is resampled.
    """
    size = array.shape[-1]
    if size == length:
        return np.moveaxis(array, -1, 0)
    lines = array.reshape(-1, size)
    result = np.empty((length, len(lines)), dtype=np.float32)
    for band in bands(size, length, order):
        np.matmul(band.weights, lines[:, band.columns].T, out=result[band.rows])
    return result.reshape(length, *array.shape[:-1])
