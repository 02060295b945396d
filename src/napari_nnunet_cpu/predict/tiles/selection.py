"""Which tiles of the grid a run consists of: all of them, a draft's, or those that a box depends on."""

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
        Only what this box depends on; None for the whole image.
    cover : bool
        Only as many tiles as cover the image once.
    """

    box: Box | None = None
    cover: bool = False


def chosen_tiles(grid: Grid, export: LabelExport, geometry: Geometry, settings: Settings) -> tuple[Tile, ...]:
    """The tiles that the settings choose, in grid order.

    Parameters
    ----------
    grid : Grid
        Of which tiles.
    export : LabelExport
        Says which of them labels depend on.
    geometry : Geometry
        Where the box of the case lies.
    settings : Settings
        Box and cover.

    Raises
    ------
    SettingsError
        When the box reaches out of the case.
    """
    tiles = grid.covering_tiles() if settings.cover else grid.tiles()
    box = kept_box(geometry, settings)
    if box is None:
        return tiles
    finality = Finality(grid, export, geometry.cropped_shape)
    return tuple(tile for tile in tiles if finality.decides(box, tile))


def kept_box(geometry: Geometry, settings: Settings) -> Box | None:
    """The box of the settings in what was kept of the image, an empty one where that is nothing; None for all.

    Raises
    ------
    SettingsError
        When it reaches out of the case.
    """
    if settings.box is None:
        return None
    shape = geometry.case_shape
    if settings.box.common(Box.whole(shape)) != settings.box:
        raise SettingsError(
            f"the box {settings.box} reaches out of the image, whose shape is {shape}: give one inside of it"
        )
    return geometry.kept_box(settings.box) or Box.whole((0, 0, 0))
