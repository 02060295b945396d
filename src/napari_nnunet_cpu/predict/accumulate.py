"""Sums of overlapping tiles, in float32 buffers of our own.

Source of the weights: `compute_gaussian` in nnU-Net `inference/sliding_window_prediction.py`.
nnU-Net adds in float16, in place, in tensors that torch guards; here nothing but numpy arrays
is ever written to, so no caller can meet "Inplace update to inference tensor".
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_nnunet_cpu.export.logits import Array, Logits
from napari_nnunet_cpu.predict.grid import Grid, Tile, Triple


class Accumulator(Protocol):
    """Takes the logits of tiles in any order and gives their weighted sums back."""

    def add(self, tile: Tile, logits: Array) -> None:
        """Add the logits (heads, *tile.size) of one tile, which are left as they are."""

    def rows(self, first: int, last: int) -> Logits:
        """The sums in rows first:last of the image, along its first axis."""


class DenseAccumulator:
    """Holds the sums of the whole image in memory.

    Parameters
    ----------
    grid : Grid
        Says the shapes.
    heads : int
        Output channels of the network.
    """

    def __init__(self, grid: Grid, heads: int) -> None:
        self._inside = grid.inside()
        self._window = gaussian_window(grid.patch)
        self._sums = np.zeros((heads, *grid.padded), dtype=np.float32)
        self._weights = np.zeros(grid.padded, dtype=np.float32)

    def add(self, tile: Tile, logits: Array) -> None:
        """Add the logits (heads, *tile.size) of one tile, which are left as they are."""
        place = tile.slices()
        for sums, head in zip(self._sums, logits, strict=True):
            sums[place] += head * self._window
        self._weights[place] += self._window

    def rows(self, first: int, last: int) -> Logits:
        """The sums in rows first:last of the image: views, which go on with what is added."""
        return Logits(self._sums[:, *self._inside][:, first:last], self._weights[self._inside][first:last])

    @property
    def nbytes(self) -> int:
        """Memory of the sums."""
        return self._sums.nbytes + self._weights.nbytes


def accumulator_bytes(grid: Grid, heads: int) -> int:
    """Memory that a `DenseAccumulator` will take."""
    z, y, x = grid.padded
    return 4 * (heads + 1) * z * y * x


def gaussian_window(patch: Triple) -> Array:
    """Weights of a tile: a Gaussian of an eighth of the patch, 10 in the middle, never 0.

    They are rounded to float16, which nnU-Net does and which changes them by up to 0.05 %.

    Parameters
    ----------
    patch : tuple of int
        Voxels (Z, Y, X).

    Returns
    -------
    numpy.ndarray
        Shape `patch`, float32.
    """
    impulse = np.zeros(patch)
    impulse[tuple(length // 2 for length in patch)] = 1
    window = gaussian_filter(impulse, [length / 8 for length in patch], mode="constant")
    rounded = (window / (window.max() / 10)).astype(np.float16)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    weights: Array = rounded.astype(np.float32)
    return weights
