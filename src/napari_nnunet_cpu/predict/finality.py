"""When labels are final: no tile that is still to come touches a voxel that they depend on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.export import LabelExport
from napari_nnunet_cpu.predict.grid import Grid, Tile

Places = npt.NDArray[np.intp]


class Finality:
    """Follows which rows of what was kept of the image are final while tiles are computed.

    All tiles with one start along the first axis are done before any row that they touch is. So this is about
    starts and rows, and no more than a few thousand of each.

    Parameters
    ----------
    grid : Grid
        Where tiles lie.
    export : LabelExport
        Says which rows of the prepared image labels depend on.
    rows : int
        Of what was kept of the image.
    tiles : iterable of Tile
        The tiles to come.
    """

    def __init__(self, grid: Grid, export: LabelExport, rows: int, tiles: Iterable[Tile]) -> None:
        self._first, self._last = rows_needed(grid, export, rows)
        self._depth, self._end = grid.patch[0], grid.padded[0]
        self._final = np.zeros(rows, dtype=np.bool_)
        self._todo: dict[int, set[int]] = {}
        self._planned: set[int] = set()
        self.plan(tiles)

    def plan(self, tiles: Iterable[Tile]) -> None:
        """Expect these tiles, too: what they touch is not final any more."""
        for tile in tiles:
            if tile.index not in self._planned:
                self._planned.add(tile.index)
                self._todo.setdefault(tile.start[0], set()).add(tile.index)
                self._final &= ~self._touched(tile.start[0])

    def done(self, tile: Tile) -> tuple[int, int] | None:
        """Take note of a tile that was expected.

        Returns
        -------
        tuple of int or None
            The rows start:stop of what was kept of the image whose logits are complete now and were not before.
            They are final once `settle` is told of their labels.
        """
        start = tile.start[0]
        self._todo[start].discard(tile.index)
        if self._todo[start]:
            return None
        del self._todo[start]
        found = self._touched(start)
        if not found.any():
            return None
        low, high = self._first[found].min(), self._last[found].max()
        for other in self._todo:
            if other < high and other + self._depth > low:
                found &= ~self._touched(other)
        # Tiles are all equally deep, so that others take rows from the ends and never from the middle.
        rows = np.flatnonzero(found)
        return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else None

    def settle(self, start: int, stop: int) -> None:
        """Take note that labels of rows were made from complete logits."""
        self._final[start:stop] = True

    @property
    def open_rows(self) -> list[tuple[int, int]]:
        """Rows start:stop of what was kept of the image that are not final, as few runs of them as there are."""
        edges = np.flatnonzero(np.diff(~self._final, prepend=False, append=False)).tolist()
        return list(zip(edges[::2], edges[1::2], strict=True))

    @property
    def needed(self) -> int:
        """The first row of the padded image that labels to come depend on; its end when all are final."""
        still = self._first[~self._final]
        return int(still[0]) if len(still) else self._end

    def _touched(self, start: int) -> npt.NDArray[np.bool_]:
        """Which rows of what was kept depend on tiles with this start."""
        touched: npt.NDArray[np.bool_] = (self._first < start + self._depth) & (self._last > start)
        return touched


def rows_needed(grid: Grid, export: LabelExport, rows: int) -> tuple[Places, Places]:
    """The rows first:last of the padded image that each of so many rows of labels depends on.

    Neither ever falls from one row to the next.
    """
    first, last = np.array([export.rows_needed(row, row + 1) for row in range(rows)]).T + grid.before[0]
    return first, last


def window_depth(grid: Grid, export: LabelExport, rows: int, starts: Sequence[int]) -> int:
    """Rows of the padded image to be held at a time when tiles come row by row.

    Parameters
    ----------
    grid : Grid
        Where tiles lie.
    export : LabelExport
        Says which rows of the prepared image labels depend on.
    rows : int
        Of what was kept of the image.
    starts : sequence of int
        Of the tiles, along the first axis, in ascending order.
    """
    first, last = rows_needed(grid, export, rows)
    depth = grid.patch[0]
    for start in starts:
        still = first[last > start]
        if len(still):
            depth = max(depth, start + grid.patch[0] - int(still[0]))
    return min(depth, grid.padded[0])
