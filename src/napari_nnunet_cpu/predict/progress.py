"""The progress of a run: tiles done, tiles in all, and seconds left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.events import TileDone
from napari_nnunet_cpu.predict.tiles import Tile


class Progress:
    """Counts the computed tiles of a run, and times the tiles that are computed from now on.

    The run adds the indices of computed tiles to `done`. `chosen` are the tiles of the run, and `todo` the tiles to
    compute now.
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
        """Whether all tiles of the run, and all tiles to compute now, are computed."""
        return len(self._done) == self._total

    def ends_row(self, tile: Tile) -> bool:
        """Count a computed tile; returns whether it was the last one of its row."""
        self._left_in_row[tile.start[0]] -= 1
        return self._left_in_row[tile.start[0]] <= 0

    def event(self, final: tuple[Box, ...], estimated: float = 0.0) -> TileDone:
        """The event after a tile that made these boxes final; before the first, with `estimated` seconds per tile."""
        computed = len(self._done) - self._before
        per_tile = (time.perf_counter() - self._start) / computed if computed else estimated
        left = len(self._todo - self._done)
        return TileDone(len(self._done), self._total, per_tile * left, final=final)
