"""The order of tiles: those first that decide what is on screen, then outwards from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from napari_nnunet_cpu.boxes import Box, Side, Triple
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile


@dataclass(frozen=True, slots=True)
class Focus:
    """What is looked at.

    Attributes
    ----------
    point : tuple of int
        A voxel (Z, Y, X) of the case: the middle of what is on screen.
    axis : int or None
        Axis of the case along which one goes through the slices, of which one is on screen; None where the volume
        is seen as a whole, so that what is near to the point counts.
    """

    point: Triple
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Centre:
    """A focus as the grid sees it.

    Attributes
    ----------
    needed : Box
        Box of the padded image that the label at the point depends on.
    axis : int or None
        Axis of the padded image across which the slice lies.
    """

    needed: Box
    axis: int | None


def from_centre(tiles: Iterable[Tile], grid: Grid, centre: Centre) -> list[Tile]:
    """Tiles in the order in which they are wanted.

    First come those that touch what the slice depends on (or, seen as a whole, the voxel), then the nearer ones;
    of equally near ones those first whose middle is nearer to the point.

    Parameters
    ----------
    tiles : iterable of Tile
        Of the grid.
    grid : Grid
        Says how large a patch is: distances count in patches.
    centre : Centre
        From where.
    """
    axes = range(3) if centre.axis is None else (centre.axis,)

    def distance(tile: Tile) -> tuple[float, float, int]:
        gaps = [_gap(tile, axis, centre.needed[axis]) / grid.patch[axis] for axis in axes]
        middles = [
            (start + (size - first - last) / 2) / size
            for start, size, (first, last) in zip(tile.start, tile.size, centre.needed, strict=True)
        ]
        return max(gaps), sum(middle**2 for middle in middles), tile.index

    return sorted(tiles, key=distance)


def _gap(tile: Tile, axis: int, needed: Side) -> int:
    """Voxels along an axis that lie between a tile and what is needed; 0 where it touches that."""
    start, stop = tile.start[axis], tile.start[axis] + tile.size[axis]
    return max(needed[0] - stop + 1, start - needed[1] + 1, 0)
