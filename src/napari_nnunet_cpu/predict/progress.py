"""The progress of a run: tiles done, tiles in all, and seconds left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.events import TileDone
from napari_nnunet_cpu.predict.tiles import Tile


class Progress:
    """Counts computed tiles, and times those computed since it was made.

    Parameters
    ----------
    done : set of int
        Indices of the computed tiles; the run adds to it.
    chosen : sequence of Tile
        The tiles of the run.
    todo : sequence of Tile
        Those to compute now.
    """

    def __init__(self, done: set[int], chosen: Sequence[Tile], todo: Sequence[Tile]) -> None:
        self._done = done
        self._before = len(done)
        self._todo = {tile.index for tile in todo}
        self._total = len(done.union(self._todo, (tile.index for tile in chosen)))
        self._left_in_row = Counter(tile.start[0] for tile in todo)
        self._start = time.perf_counter()

    @property
    def finished(self) -> bool:
        """Whether every tile of the run, and every one to compute now, is computed."""
        return len(self._done) == self._total

    def ends_row(self, tile: Tile) -> bool:
        """Count a computed tile, and say whether it is the last one of its row along the first axis."""
        self._left_in_row[tile.start[0]] -= 1
        return self._left_in_row[tile.start[0]] <= 0

    def resumed(self, final: tuple[Box, ...], seconds_per_tile: float) -> TileDone:
        """The event before the first tile: an earlier run made these boxes final."""
        return self._event(final, seconds_per_tile)

    def tile_done(self, final: tuple[Box, ...]) -> TileDone:
        """The event after a tile that made these boxes final."""
        return self._event(final, (time.perf_counter() - self._start) / (len(self._done) - self._before))

    def _event(self, final: tuple[Box, ...], seconds_per_tile: float) -> TileDone:
        left = len(self._todo - self._done)
        return TileDone(len(self._done), self._total, seconds_per_tile * left, final=final)
