"""The tiles of a run: the chosen tiles, the computed tiles, and the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import LabelExport
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile
from napari_nnunet_cpu.predict.tiles.order import Focus, from_centre
from napari_nnunet_cpu.predict.tiles.selection import chosen_tiles
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.settings import Settings


@dataclass(eq=False)
class RunTiles:
    """The chosen and the computed tiles of a run.

    With `in_rows`, the sums of finished rows are forgotten: only the chosen tiles can be computed, row by row.
    """

    grid: Grid
    export: LabelExport
    geometry: Geometry
    chosen: tuple[Tile, ...]  # in grid order
    in_rows: bool
    done: set[int]  # indices of the computed tiles, chosen or not, including the tiles of a resumed run

    @property
    def done_count(self) -> int:
        """Number of chosen tiles that are computed."""
        return sum(tile.index in self.done for tile in self.chosen)

    def choose(self, settings: Settings, saved: bool) -> None:
        """Choose the tiles of other settings.

        Raises `SettingsError` if the box exceeds the image, or if `in_rows` the sums of further tiles are forgotten.
        A saved run `in_rows` can't change its tiles at all.
        """
        tiles = chosen_tiles(self.grid, self.export, self.geometry, settings)
        self._check_held(tiles)
        if saved and self.in_rows and tiles != self.chosen:
            raise SettingsError(
                "the run is saved, and sums of finished rows are forgotten to save memory, so its tiles can't be "
                "changed; start it with the box, or allow more memory"
            )
        self.chosen = tiles

    def left(self, tiles: Iterable[Tile]) -> list[Tile]:
        """The given tiles that are not computed yet.

        Raises `SettingsError` if a tile is not in the grid, or if the sums that it belongs to are forgotten.
        """
        wanted = dict.fromkeys(tiles)
        foreign = set(wanted) - set(self.grid.tiles())
        if foreign:
            raise SettingsError(f"{min(foreign, key=str)} is not a tile of the grid; take tiles of run.grid.tiles()")
        self._check_held(wanted)
        return [tile for tile in wanted if tile.index not in self.done]

    def in_focus_order(self, todo: Sequence[Tile], focus: Callable[[], Focus | None]) -> Iterator[Tile]:
        """The tiles, except those computed meanwhile.

        Unless `in_rows`, the tiles that decide the labels in the present focus come first.
        """
        left, followed = list(reversed(todo)), None
        while left:
            wanted = None if self.in_rows else focus()
            if wanted not in (None, followed):
                followed = wanted
                left = from_centre(left, self.grid, *self._centre(wanted))[::-1]
            tile = left.pop()
            if tile.index not in self.done:
                yield tile

    def _centre(self, focus: Focus) -> tuple[Box, int | None]:
        """The focus in the padded image, as `from_centre` takes it."""
        voxel = Box.at(self.geometry.cropped_point(focus.point), (1, 1, 1))
        needed = self.export.needed(voxel).moved(self.grid.before)
        return needed, None if focus.axis is None else self.geometry.order.axes.index(focus.axis)

    def _check_held(self, tiles: Iterable[Tile]) -> None:
        if self.in_rows and not set(tiles) <= set(self.chosen):
            raise SettingsError(
                "sums of finished rows are forgotten to save memory, so no further tiles can be added; "
                "take tiles of run.tiles, or allow more memory"
            )
