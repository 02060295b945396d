"""Save a run while it computes, so that it survives the end of its process."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.predict.passes import Accumulator
from napari_nnunet_cpu.predict.resume.run_file import RunFile
from napari_nnunet_cpu.predict.tiles import Finality, Grid, Tile

# A save is due after a row of tiles at the latest, and earlier if it takes a small share of the time.
_SHARE_OF_TIME = 0.05
_LEAST_SECONDS = 5.0


class RunSaver:
    """Saves the final labels of a run, and the sums that all other labels are made from.

    The starts and ends of tiles cut the padded image into blocks. A tile consists of several blocks, and a save writes
    the blocks whose sums changed. `cropped` are the labels of the cropped image (Z, Y, X), which `restore` fills.
    Without `with_labels`, the sums of all tiles are saved instead, because probabilities or uncertainty need them.
    """

    def __init__(
        self,
        file: RunFile,
        grid: Grid,
        accumulator: Accumulator,
        finality: Finality,
        cropped: npt.NDArray[Any],
        with_labels: bool = True,
    ) -> None:
        self.file = file
        self._accumulator = accumulator
        self._finality = finality
        self._cropped = cropped
        self._with_labels = with_labels
        self._edges = [
            np.unique([*starts, *(start + length for start in starts)]).tolist()
            for starts, length in zip(grid.starts, grid.patch, strict=True)
        ]
        self._row = len(grid.starts[1]) * len(grid.starts[2])
        self._tiles: list[Tile] = []
        self._labels: list[Box] = []
        self._stored: set[Box] = set()
        self._seconds = 0.0  # duration of the last save
        self._saved = time.perf_counter()

    def restore(self, tiles: tuple[Tile, ...]) -> set[int]:
        """Restore the saved labels and sums; `tiles` are all tiles of the grid. Returns the indices of saved tiles."""
        if self.file.has_labels and not self._with_labels:
            self.file.discard()  # because all sums are needed, but those of the saved labels are removed
        done = set(self.file.tiles)
        for index in sorted(done):
            self._finality.done(tiles[index])
        for box, labels in self.file.labels():
            self._cropped[box.slices] = labels
            self._finality.settle(box)
        to_come = [tile.start[0] for tile in tiles if tile.index not in done]
        self._accumulator.forget(min([self._finality.needed, *to_come]))
        for box, sums in self.file.sums():
            self._accumulator.restore(box, sums)
            self._stored.add(box)
        return done

    def note(self, tile: Tile | None, complete: list[Box]) -> None:
        """Record a tile that was added to the sums, and boxes whose labels no tile can change any more."""
        if tile is not None:
            self._tiles.append(tile)
        if self._with_labels:
            self._labels += complete
        waited = time.perf_counter() - self._saved
        if len(self._tiles) >= self._row or waited > max(_LEAST_SECONDS, self._seconds / _SHARE_OF_TIME):
            self.save()

    def save(self) -> None:
        """Save the tiles and labels recorded since the last save."""
        if not (self._tiles or self._labels) or self.file.problem is not None:
            return
        start = time.perf_counter()
        changed = set(itertools.chain.from_iterable(self._blocks(tile) for tile in self._tiles))
        touched = changed | self._stored
        gone = {box for box in touched if self._with_labels and self._finality.finished(box)}
        saved = self.file.save(
            [tile.index for tile in self._tiles],
            ((box, self._cropped[box.slices]) for box in self._labels),
            ((box, self._accumulator.copy_of(box)) for box in sorted(changed - gone)),
            sorted(gone & self._stored),
        )
        if saved:
            self._stored = touched - gone
            self._tiles, self._labels = [], []
        self._saved = time.perf_counter()
        self._seconds = self._saved - start

    def _blocks(self, tile: Tile) -> list[Box]:
        """The blocks of a tile."""
        sides = []
        for edges, start, size in zip(self._edges, tile.start, tile.size, strict=True):
            own = [edge for edge in edges if start <= edge <= start + size]
            sides.append(list(itertools.pairwise(own)))
        return list(itertools.starmap(Box, itertools.product(*sides)))
