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


def from_centre(tiles: Iterable[Tile], grid: Grid, needed: Box, axis: int | None) -> list[Tile]:
    """Sort tiles by their distance from the focus, in patches.

    `needed` is the box of the padded image that the label at the point depends on, and `axis` the one across which the
    slice lies, as in `Focus`. First come the tiles that touch voxels on which the labels of the slice depend (or, for a
    whole volume, the label at the point), then the nearer tiles. Equally near tiles are sorted by the distance of their
    middle.
    """
    axes = range(3) if axis is None else (axis,)

    def distance(tile: Tile) -> tuple[float, float, int]:
        gaps = [_gap(tile, across, needed[across]) / grid.patch[across] for across in axes]
        middles = [
            (start + (size - first - last) / 2) / size
            for start, size, (first, last) in zip(tile.start, tile.size, needed, strict=True)
        ]
        return max(gaps), sum(middle**2 for middle in middles), tile.index

    return sorted(tiles, key=distance)


def _gap(tile: Tile, axis: int, needed: Side) -> int:
    """Voxels along an axis between a tile and the needed range; 0 if they touch."""
    start, stop = tile.start[axis], tile.start[axis] + tile.size[axis]
    return max(needed[0] - stop + 1, start - needed[1] + 1, 0)
