"""Choose the tiles of a run: all tiles of the grid, the cover of a draft, or the tiles that a box needs."""

from __future__ import annotations

from dataclasses import dataclass

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import LabelExport
from napari_nnunet_cpu.predict.tiles.finality import Finality
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.settings import Settings


@dataclass(frozen=True, slots=True)
class TileSelection:
    """Which part of the image a run computes, see `Settings`.

    Attributes
    ----------
    box : Box or None
        Only the tiles that this box depends on; None for the whole image.
    cover : bool
        Only as many tiles as cover the image once.
    """

    box: Box | None = None
    cover: bool = False


def chosen_tiles(grid: Grid, export: LabelExport, geometry: Geometry, settings: Settings) -> tuple[Tile, ...]:
    """The tiles for the box and cover of the settings, in grid order.

    Raises `SettingsError` if the box exceeds the image.
    """
    tiles = grid.covering_tiles() if settings.cover else grid.tiles()
    box = cropped_box(geometry, settings)
    if box is None:
        return tiles
    finality = Finality(grid, export, geometry.cropped_shape)
    return tuple(tile for tile in tiles if finality.decides(box, tile))


def cropped_box(geometry: Geometry, settings: Settings) -> Box | None:
    """The settings' box in the cropped image; empty if it lies outside it, None if the settings have no box.

    Raises `SettingsError` if the box exceeds the image.
    """
    if settings.box is None:
        return None
    shape = geometry.case_shape
    if settings.box.common(Box.whole(shape)) != settings.box:
        raise SettingsError(f"the box {settings.box} exceeds the image, whose shape is {shape}: give a box inside it")
    return geometry.cropped_box(settings.box) or Box.whole((0, 0, 0))
