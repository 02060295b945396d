"""Boxes in a volume: start and stop along Z, Y, X."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy.typing as npt

Side = tuple[int, int]  # start and stop along one axis
Triple = tuple[int, int, int]  # a shape or a voxel (Z, Y, X)


class Box(NamedTuple):
    """Start and stop along Z, Y, X; equal to a plain tuple of the same numbers."""

    z: Side
    y: Side
    x: Side

    @classmethod
    def at(cls, start: Sequence[int], shape: Sequence[int]) -> Box:
        """The box of a shape whose first voxel is `start`."""
        return cls(*((first, first + length) for first, length in zip(start, shape, strict=True)))

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """The box of all voxels of an array (Z, Y, X)."""
        return cls.at((0, 0, 0), shape)

    @classmethod
    def parse(cls, text: str) -> Box:
        """Parse the text of a box from `str` or a user, with or without spaces; raises `ValueError` for other text."""
        sides = re.fullmatch(r"(\d+):(\d+),(\d+):(\d+),(\d+):(\d+)", re.sub(r"\s", "", text), re.ASCII)
        if sides is None:
            raise ValueError(f"not a box: {text!r}")
        a, b, c, d, e, f = map(int, sides.groups())
        return cls((a, b), (c, d), (e, f))

    def __str__(self) -> str:
        return ",".join(f"{start}:{stop}" for start, stop in self)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The slices that index the box in an array (Z, Y, X)."""
        return slice(*self.z), slice(*self.y), slice(*self.x)

    @property
    def start(self) -> Triple:
        """The first voxel."""
        return self.z[0], self.y[0], self.x[0]

    @property
    def shape(self) -> Triple:
        """The number of voxels along each axis."""
        return self.z[1] - self.z[0], self.y[1] - self.y[0], self.x[1] - self.x[0]

    def common(self, other: Box) -> Box | None:
        """The intersection with another box; None where they do not overlap."""
        box = Box(*((max(a, c), min(b, d)) for (a, b), (c, d) in zip(self, other, strict=True)))
        return box if min(box.shape) > 0 else None

    def moved(self, by: Sequence[int]) -> Box:
        """The box moved by this number of voxels along each axis."""
        return Box(*((start + step, stop + step) for (start, stop), step in zip(self, by, strict=True)))

    def seen_from(self, origin: Sequence[int]) -> Box:
        """The same box with its voxels counted from `origin`."""
        return self.moved([-start for start in origin])

    def slabs(self, rows: int) -> Iterator[Box]:
        """Cut the box along Z into boxes of this number of rows."""
        return (self._replace(z=slab) for slab in slabs_of(*self.z, rows))


def slabs_of(start: int, stop: int, step: int) -> Iterator[Side]:
    """Cut the range start:stop into ranges of length `step`."""
    return ((first, min(first + step, stop)) for first in range(start, stop, step))


def inside(array: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    """A copy of an array (Z, Y, X) with 0 outside the box."""
    import numpy as np  # here, because the command line has boxes in its settings and must start fast

    result = np.zeros_like(array)
    result[box.slices] = array[box.slices]
    return result
