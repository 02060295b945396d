"""The sliding window: which tiles there are. Pure geometry; no array, no network.

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

MAX_TILES = 10**6  # a day at a tenth of a second each; patches of a few voxels would fill the memory with tiles


@dataclass(frozen=True, slots=True)
class Tile:
    """A patch placed in the padded image.

    Attributes
    ----------
    index : int
        Place in the grid's order: the last axis runs fastest.
    start : tuple of int
        First voxel (Z, Y, X), in the padded image.
    size : tuple of int
        Voxels (Z, Y, X) of the patch.
    """

    index: int
    start: Triple
    size: Triple

    @property
    def box(self) -> Box:
        """Where the tile lies in the padded image."""
        return Box.at(self.start, self.size)


@dataclass(frozen=True, slots=True)
class Grid:
    """All tiles of an image.

    Attributes
    ----------
    shape : tuple of int
        Of the image (Z, Y, X).
    patch : tuple of int
        Of the network's window (Z, Y, X); 2d windows have Z = 1.
    padded : tuple of int
        Of the image after padding to at least the patch.
    before : tuple of int
        Voxels of padding in front of the image; an odd voxel goes behind it, as in nnU-Net.
    starts : tuple
        Tile starts per axis, in the padded image.
    """

    shape: Triple
    patch: Triple
    padded: Triple
    before: Triple
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @classmethod
    def for_image(cls, shape: Triple, patch_size: Sequence[int], step: float) -> Grid:
        """The grid of an image.

        Parameters
        ----------
        shape : tuple of int
            Voxels (Z, Y, X) of the prepared image.
        patch_size : sequence of int
            As in the plans: (Z, Y, X), or (Y, X) for a network that goes slice by slice.
        step : float
            Largest distance of neighbouring tiles as a share of the patch, in (0, 1].

        Raises
        ------
        CaseError
            When there would be more than `MAX_TILES`.
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
        """Of the starts along each axis, which one is the tile's."""
        rest, x = divmod(tile.index, len(self.starts[2]))
        z, y = divmod(rest, len(self.starts[1]))
        return z, y, x

    @property
    def covering(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """As few of the starts per axis as cover the image."""
        z, y, x = (covering_starts(axis, length) for axis, length in zip(self.starts, self.patch, strict=True))
        return z, y, x

    def covering_tiles(self) -> tuple[Tile, ...]:
        """As few of the tiles as cover the image, with their index in the whole grid."""
        places = [[axis.index(start) for start in kept] for axis, kept in zip(self.starts, self.covering, strict=True)]
        _, rows, columns = (len(axis) for axis in self.starts)
        return tuple(
            Tile((i * rows + j) * columns + k, (self.starts[0][i], self.starts[1][j], self.starts[2][k]), self.patch)
            for i, j, k in itertools.product(*places)
        )

    def spread(self, size: Sequence[int], most: int) -> Iterator[Box]:
        """Places in the padded image that hardly overlap, in an order that goes all over it, the same every time.

        Parameters
        ----------
        size : sequence of int
            Voxels (Z, Y, X), or (Y, X) of one slice; at most those of the patch.
        most : int
            Of the places there are, so many.
        """
        size = (1, *size) if len(size) == 2 else size
        starts = [axis_starts(total, n, 1.0) for total, n in zip(self.padded, size, strict=True)]
        shape = tuple(len(axis) for axis in starts)
        count = math.prod(shape)
        for number in random.Random(0).sample(range(count), min(most, count)):
            place, steps = list[int](), number
            for axis in reversed(starts):
                steps, step = divmod(steps, len(axis))
                place.insert(0, axis[step])
            yield Box.at(place, size)

    @property
    def inside(self) -> Box:
        """Where the image lies in the padded image."""
        return Box.at(self.before, self.shape)


def axis_starts(length: int, patch: int, step: float) -> tuple[int, ...]:
    """Tile starts along one axis: evenly spread, at most `step * patch` apart.

    Parameters
    ----------
    length : int
        Voxels of the padded axis, at least `patch`.
    patch : int
        Voxels of the window.
    step : float
        In (0, 1].

    Returns
    -------
    tuple of int
        From 0 to `length - patch`.
    """
    last = length - patch
    count = math.ceil(last / (patch * step)) + 1
    return tuple(round(last / max(count - 1, 1) * i) for i in range(count))


def covering_starts(starts: Sequence[int], patch: int) -> tuple[int, ...]:
    """As few of the starts as leave no voxel between the first and the last tile uncovered."""
    kept = [starts[0]]
    for here, following in itertools.pairwise(starts):
        if following > kept[-1] + patch:
            kept.append(here)
    if kept[-1] != starts[-1]:
        kept.append(starts[-1])
    return tuple(kept)


def _triple(values: Sequence[int]) -> Triple:
    z, y, x = values
    return z, y, x
