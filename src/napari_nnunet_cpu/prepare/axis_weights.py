"""Nearest and linear interpolation along one axis: which voxels a new one is made of, and with what share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Taps:
    """The two voxels that each voxel of a resampled axis lies between.

    Attributes
    ----------
    below, above : numpy.ndarray
        Their places on the source's axis, shape (length,). They are the same where one alone counts,
        so that a voxel without weight is never looked at.
    share : numpy.ndarray
        Of the one above, shape (length,), float32, in [0, 1]; 0 where they are the same.
    """

    below: npt.NDArray[np.intp]
    above: npt.NDArray[np.intp]
    share: npt.NDArray[np.float32]

    def __getitem__(self, chosen: slice | npt.NDArray[np.intp]) -> Taps:
        """The taps of some voxels of the resampled axis."""
        return Taps(self.below[chosen], self.above[chosen], self.share[chosen])

    def moved(self, by: int | npt.NDArray[np.intp]) -> Taps:
        """The same taps on an axis whose voxels have places that are larger by `by`."""
        return Taps(self.below + by, self.above + by, self.share)

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The voxels first:last of the source that voxels start:stop of the resampled axis are made of."""
        return int(self.below[start]), int(self.above[stop - 1]) + 1

    def apply(self, array: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
        """Resample one axis of an array; a new array of the same type.

        The blend is (1 - share) * below + share * above, because that is monotone even when rounded:
        what is larger in both voxels is never smaller in between.
        """
        low = array.take(self.below, axis, mode="clip")  # no index is outside, and this mode is the fastest
        if not self.share.any():
            return low
        share = self.share.reshape(-1, *[1] * (array.ndim - 1 - axis))
        low *= 1 - share
        high = array.take(self.above, axis, mode="clip")
        high *= share
        low += high
        return low


@lru_cache(maxsize=32)
def axis_taps(size: int, length: int, order: int, as_torch: bool = False) -> Taps:
    """The taps of an axis of `size` voxels resampled to `length`; centres aligned, edges continued.

    Parameters
    ----------
    size, length : int
        Voxels, at least 1.
    order : int
        0 takes the nearest voxel, half-way the later one; 1 interpolates linearly.
    as_torch : bool
        Round positions to float32 as torch does; that decides which voxels lie half-way.
    """
    position: npt.NDArray[np.floating[Any]]
    if as_torch:
        step = np.float32(size) / np.float32(length)
        position = (np.float64(step) * (np.arange(length) + 0.5) - 0.5).astype(np.float32)
    else:
        position = size / length * (np.arange(length) + 0.5) - 0.5
    if order == 0:
        nearest = np.floor(position + 0.5).astype(np.intp).clip(0, size - 1)
        return Taps(nearest, nearest, np.zeros(length, np.float32))
    position = position.clip(0, size - 1)
    below = np.floor(position).astype(np.intp)
    share = (position - below).astype(np.float32)
    return Taps(below, np.where(share > 0, below + 1, below), share)
