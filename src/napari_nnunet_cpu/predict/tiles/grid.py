"""The grid: all tiles of the sliding window. Pure geometry without arrays or networks.

Source: nnU-Net `inference/sliding_window_prediction.py` and `_internal_get_sliding_window_slicers`
in `inference/predict_from_raw_data.py`. One axis is solved at a time and `itertools.product`
lifts the answer to three; a 2d patch is one slice thick.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from napari_nnunet_cpu.boxes import Box, Triple
from napari_nnunet_cpu.errors import CaseError

MAX_TILES = 10**6  # a day at 0.1 s a tile; the limit exists because tiny patches would fill the memory with tiles


@dataclass(frozen=True, slots=True)
class Tile:
    """A patch placed in the padded image."""

    index: int  # in the grid; the last axis runs fastest
    start: Triple  # first voxel (Z, Y, X) in the padded image
    size: Triple  # of the patch

    @property
    def box(self) -> Box:
        """The box of the tile in the padded image."""
        return Box.at(self.start, self.size)


@dataclass(frozen=True, slots=True)
class Grid:
    """All tiles of an image; its sizes are (Z, Y, X)."""

    shape: Triple  # of the prepared image
    patch: Triple  # 2d patches have Z = 1
    padded: Triple  # shape of the image padded to at least the patch
    before: Triple  # voxels of padding before the image; an odd voxel goes behind it, as in nnU-Net
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # of the tiles, per axis of the padded image

    @classmethod
    def for_image(cls, shape: Triple, patch_size: Sequence[int], step: float) -> Grid:
        """The grid of a prepared image of this shape (Z, Y, X).

        `patch_size` is that of the plans: (Z, Y, X), or (Y, X) for a network of slices. `step` is the largest
        distance of neighbouring tiles as a share of the patch, in (0, 1]. Raises `CaseError` above `MAX_TILES`.
        """
        flat = len(patch_size) == 2
        patch = _triple((1, *patch_size) if flat else patch_size)
        padded = _triple([max(n, p) for n, p in zip(shape, patch, strict=True)])
        before = _triple([(n - s) // 2 for n, s in zip(padded, shape, strict=True)])
        starts = [axis_starts(n, p, step) for n, p in zip(padded, patch, strict=True)]
        if flat:
            starts[0] = tuple(range(padded[0]))
        grid = cls(_triple(shape), patch, padded, before, (starts[0], starts[1], starts[2]))
        if len(grid) > MAX_TILES:
            raise CaseError(
                f"patches {patch} at step {step} make {len(grid)} tiles of an image {tuple(shape)}; that is more than "
                f"{MAX_TILES}: cut the image, check its spacing, or choose a larger step"
            )
        return grid

    def __len__(self) -> int:
        return math.prod(len(axis) for axis in self.starts)

    def tiles(self) -> tuple[Tile, ...]:
        """Every tile, first axis outermost."""
        return tuple(Tile(i, _triple(start), self.patch) for i, start in enumerate(itertools.product(*self.starts)))

    def numbers(self, tile: Tile) -> Triple:
        """The position of the tile's start among the starts of each axis."""
        rest, x = divmod(tile.index, len(self.starts[2]))
        z, y = divmod(rest, len(self.starts[1]))
        return z, y, x

    @property
    def covering(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The fewest starts per axis whose tiles cover the image."""
        z, y, x = (covering_starts(axis, length) for axis, length in zip(self.starts, self.patch, strict=True))
        return z, y, x

    def covering_tiles(self) -> tuple[Tile, ...]:
        """The fewest tiles that cover the image, with their index in the whole grid."""
        places = [
            [axis.index(at) for at in covering] for axis, covering in zip(self.starts, self.covering, strict=True)
        ]
        _, rows, columns = (len(axis) for axis in self.starts)
        return tuple(
            Tile((i * rows + j) * columns + k, (self.starts[0][i], self.starts[1][j], self.starts[2][k]), self.patch)
            for i, j, k in itertools.product(*places)
        )

    def spread(self, size: Sequence[int], most: int) -> Iterator[Box]:
        """At most `most` boxes of the padded image that hardly overlap, in a random order that is always the same.

        Their `size` is (Z, Y, X), or (Y, X) for boxes in one slice, and at most the patch.
        """
        size = (1, *size) if len(size) == 2 else size
        starts = [axis_starts(total, n, 1.0) for total, n in zip(self.padded, size, strict=True)]
        places = list(itertools.product(*starts))
        for place in random.Random(0).sample(places, min(most, len(places))):
            yield Box.at(place, size)

    @property
    def inside(self) -> Box:
        """The box of the prepared image in the padded image."""
        return Box.at(self.before, self.shape)


def axis_starts(length: int, patch: int, step: float) -> tuple[int, ...]:
    """Tile starts along one padded axis: from 0 to `length - patch`, evenly spread, at most `step * patch` apart."""
    last = length - patch
    count = math.ceil(last / (patch * step)) + 1
    return tuple(round(last / max(count - 1, 1) * i) for i in range(count))


def covering_starts(starts: Sequence[int], patch: int) -> tuple[int, ...]:
    """The fewest starts whose tiles cover every voxel from the first tile to the last."""
    covering = [starts[0]]
    for here, following in itertools.pairwise(starts):
        if following > covering[-1] + patch:
            covering.append(here)
    if covering[-1] != starts[-1]:
        covering.append(starts[-1])
    return tuple(covering)


def _triple(values: Sequence[int]) -> Triple:
    z, y, x = values
    return z, y, x
