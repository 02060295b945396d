"""The order of tiles: first the tiles that decide the labels on screen, then outwards from there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from napari_nnunet_cpu.boxes import Box, Side, Triple
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile


@dataclass(frozen=True, slots=True)
class Focus:
    """The point and slice on screen; their tiles come first.

    Attributes
    ----------
    point : tuple of int
        The voxel (Z, Y, X) of the case in the middle of the screen.
    axis : int or None
        Axis of the case across which the slice on screen lies. None for a view of the whole volume: then tiles near
        the point come first.
    """

    point: Triple
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Centre:
    """A focus in the padded image.

    `needed` is the box that the label at the point depends on, and `axis` the one across which the slice lies.
    """

    needed: Box
    axis: int | None


def from_centre(tiles: Iterable[Tile], grid: Grid, centre: Centre) -> list[Tile]:
    """Sort tiles by their distance from the focus, in patches.

    First come the tiles that touch voxels on which the labels of the slice depend (or, for a whole volume, the label
    at the point), then the nearer tiles. Equally near tiles are sorted by the distance of their middle.
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
    """Voxels along an axis between a tile and the needed range; 0 if they touch."""
    start, stop = tile.start[axis], tile.start[axis] + tile.size[axis]
    return max(needed[0] - stop + 1, start - needed[1] + 1, 0)
