"""The tiles of a run: which there are, which of them are computed, and whose turn it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import LabelExport
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile
from napari_nnunet_cpu.predict.tiles.order import Centre, Focus, from_centre
from napari_nnunet_cpu.predict.tiles.selection import chosen_tiles
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.settings import Settings


class RunTiles:
    """Which tiles a run consists of, and which of them are computed.

    Parameters
    ----------
    grid : Grid
        Of which tiles.
    export : LabelExport
        Says which of them labels depend on.
    geometry : Geometry
        Where boxes and slices of the case lie.
    chosen : tuple of Tile
        The tiles of the run, in grid order.
    in_rows : bool
        Whether sums of finished rows are forgotten: tiles then come row by row, and no others than those chosen can.
    done : set of int, optional
        Indices of the tiles that an earlier run computed.

    Attributes
    ----------
    chosen : tuple of Tile
        The tiles of the run, in grid order.
    done : set of int
        Indices of the computed tiles, whether the run chose them or not.
    """

    def __init__(
        self,
        grid: Grid,
        export: LabelExport,
        geometry: Geometry,
        chosen: tuple[Tile, ...],
        in_rows: bool,
        done: set[int] | None = None,
    ) -> None:
        self._grid = grid
        self._export = export
        self._geometry = geometry
        self._in_rows = in_rows
        self.chosen = chosen
        self.done = done or set()

    @property
    def done_count(self) -> int:
        """How many of the run's tiles are computed."""
        return sum(tile.index in self.done for tile in self.chosen)

    def choose(self, settings: Settings, saved: bool) -> None:
        """Choose the tiles that other settings would choose.

        Raises
        ------
        SettingsError
            When the box reaches out of the case, or memory does not hold the sums that further tiles belong to; with
            a run that is saved, when they are others at all.
        """
        tiles = chosen_tiles(self._grid, self._export, self._geometry, settings)
        self._check_held(tiles)
        if saved and self._in_rows and tiles != self.chosen:
            raise SettingsError(
                "the run is saved, and sums of finished rows are forgotten for want of memory: no others than all its "
                "tiles can be chosen; start it with the box, or allow more memory"
            )
        self.chosen = tiles

    def left(self, tiles: Iterable[Tile]) -> list[Tile]:
        """Those of the tiles that are not computed.

        Raises
        ------
        SettingsError
            When one is not of the grid, or memory does not hold the sums that it belongs to.
        """
        wanted = dict.fromkeys(tiles)
        foreign = set(wanted) - set(self._grid.tiles())
        if foreign:
            raise SettingsError(f"{min(foreign, key=str)} is not a tile of the grid; take tiles of run.grid.tiles()")
        self._check_held(wanted)
        return [tile for tile in wanted if tile.index not in self.done]

    def in_focus_order(self, todo: Sequence[Tile], focus: Callable[[], Focus | None]) -> Iterator[Tile]:
        """The tiles as they are or, where sums of all are held, those first that decide the focus of the moment.

        One that is computed by the time its turn comes is passed over.
        """
        left, followed = list(reversed(todo)), None
        while left:
            wanted = None if self._in_rows else focus()
            if wanted not in (None, followed):
                followed = wanted
                left = from_centre(left, self._grid, self._centre(wanted))[::-1]
            tile = left.pop()
            if tile.index not in self.done:
                yield tile

    def _centre(self, focus: Focus) -> Centre:
        """Where the focus lies in the padded image."""
        voxel = Box.at(self._geometry.kept_point(focus.point), (1, 1, 1))
        needed = self._export.needed(voxel).moved(self._grid.before)
        return Centre(needed, None if focus.axis is None else self._geometry.order.axes.index(focus.axis))

    def _check_held(self, tiles: Iterable[Tile]) -> None:
        if self._in_rows and not set(tiles) <= set(self.chosen):
            raise SettingsError(
                "sums of finished rows are forgotten for want of memory, and no further tiles can be added to them; "
                "take tiles of run.tiles, or allow more memory"
            )
