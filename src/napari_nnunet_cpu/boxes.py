"""Boxes in a volume: start and stop along Z, Y, X."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Bounds = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def slices(box: Bounds) -> tuple[slice, slice, slice]:
    """The slices that index a box of an array (Z, Y, X)."""
    z, y, x = box
    return slice(*z), slice(*y), slice(*x)


def whole(shape: tuple[int, int, int]) -> Bounds:
    """The box of all voxels of an array (Z, Y, X)."""
    z, y, x = shape
    return (0, z), (0, y), (0, x)


def common(one: Bounds, other: Bounds) -> Bounds | None:
    """The intersection of two boxes; None where they do not overlap."""
    z, y, x = ((max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))
    return (z, y, x) if all(start < stop for start, stop in (z, y, x)) else None


def inside(array: npt.NDArray[Any], box: Bounds) -> npt.NDArray[Any]:
    """A copy of an array (Z, Y, X) with 0 outside the box."""
    result = np.zeros_like(array)
    result[slices(box)] = array[slices(box)]
    return result


def boxes_of(mask: npt.NDArray[np.bool_]) -> Iterator[Bounds]:
    """Split a mask (Z, Y, X) into boxes that cover every True voxel once and no False voxel.

    Each box grows from its first voxel as far as possible along X, then Y, then Z.
    """
    left = mask.copy()
    while left.any():
        z, y, x = (int(place) for place in np.unravel_index(np.argmax(left), left.shape))
        line = left[z, y, x:]
        right = x + (len(line) if line.all() else int(np.argmin(line)))
        lines = np.asarray(left[z, y:, x:right].all(axis=1))
        bottom = y + (len(lines) if lines.all() else int(np.argmin(lines)))
        planes = np.asarray(left[z:, y:bottom, x:right].all(axis=(1, 2)))
        back = z + (len(planes) if planes.all() else int(np.argmin(planes)))
        left[z:back, y:bottom, x:right] = False
        yield (z, back), (y, bottom), (x, right)
