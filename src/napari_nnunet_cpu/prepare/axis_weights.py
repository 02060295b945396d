"""Nearest and linear interpolation along one axis, as weights of two neighbouring voxels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box


@dataclass(frozen=True, eq=False)
class AxisWeights:
    """The two source voxels around each voxel of a resampled axis, and their weights: arrays of shape (length,).

    `below` and `above` are equal if only one voxel has a weight, so that a voxel without weight is never read.
    """

    below: npt.NDArray[np.intp]
    above: npt.NDArray[np.intp]
    share: npt.NDArray[np.float32]  # weight of `above`, in [0, 1]; 0 if `below` and `above` are equal

    def __getitem__(self, chosen: slice | npt.NDArray[np.intp]) -> AxisWeights:
        """The weights of some voxels of the resampled axis."""
        return AxisWeights(self.below[chosen], self.above[chosen], self.share[chosen])

    def moved(self, by: int | npt.NDArray[np.intp]) -> AxisWeights:
        """The same weights for a source axis whose indices are larger by `by`."""
        return AxisWeights(self.below + by, self.above + by, self.share)

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The range first:last of source voxels around the voxels start:stop of the resampled axis."""
        return int(self.below[start]), int(self.above[stop - 1]) + 1

    def apply(self, array: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
        """Resample one axis of an array to a new array of the same type.

        Computed as (1 - share) * below + share * above, because this keeps the order of values even with
        rounding: an array that is larger in both voxels is never smaller in between.
        """
        low = array.take(self.below, axis, mode="clip")  # the fastest mode; no index is outside
        if not self.share.any():
            return low
        share = self.share.reshape(-1, *[1] * (array.ndim - 1 - axis))
        low *= 1 - share
        high = array.take(self.above, axis, mode="clip")
        high *= share
        low += high
        return low


class VolumeWeights(NamedTuple):
    """Weights along Z, Y, X."""

    z: AxisWeights
    y: AxisWeights
    x: AxisWeights

    def needed(self, box: Box) -> Box:
        """The box of source voxels around a box of the resampled volume."""
        return Box(*(weights.span(*side) for weights, side in zip(self, box, strict=True)))

    def of_box(self, box: Box) -> VolumeWeights:
        """The weights for a box of the resampled volume, from the `needed` box as the source."""
        start = self.needed(box).start
        return VolumeWeights(*(w[part].moved(-first) for w, part, first in zip(self, box.slices, start, strict=True)))


@lru_cache(maxsize=32)
def axis_weights(size: int, length: int, order: int, as_torch: bool = False) -> AxisWeights:
    """The weights to resample an axis of `size` voxels to `length`, with voxel centres aligned and edges extended.

    Order 0 takes the nearest voxel (the later one half-way), order 1 interpolates linearly. `as_torch` rounds
    positions to float32 as torch does, because this decides which voxels lie half-way.
    """
    position: npt.NDArray[np.floating[Any]]
    if as_torch:
        step = np.float32(size) / np.float32(length)
        position = (np.float64(step) * (np.arange(length) + 0.5) - 0.5).astype(np.float32)
    else:
        position = size / length * (np.arange(length) + 0.5) - 0.5
    if order == 0:
        nearest = np.floor(position + 0.5).astype(np.intp).clip(0, size - 1)
        return AxisWeights(nearest, nearest, np.zeros(length, np.float32))
    position = position.clip(0, size - 1)
    below = np.floor(position).astype(np.intp)
    share = (position - below).astype(np.float32)
    return AxisWeights(below, np.where(share > 0, below + 1, below), share)
