"""What a run keeps on disk while it goes on, so that it survives the end of its process."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.predict.passes.accumulate import Accumulator
from napari_nnunet_cpu.predict.resume.run_file import RunFile
from napari_nnunet_cpu.predict.tiles.finality import Finality
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile

# A save is due after a row of tiles at the latest, and earlier where it takes little of the time.
_SHARE_OF_TIME = 0.05
_LEAST_SECONDS = 5.0


class RunSaver:
    """Saves the tiles of a run: labels that no tile can change any more, and the sums that others are made of.

    The padded image is cut where tiles begin and end, and a tile is some of these blocks: those are written again
    whose sums changed.

    Parameters
    ----------
    file : RunFile
        Where.
    grid : Grid
        Where tiles lie.
    accumulator : Accumulator
        Holds the sums.
    finality : Finality
        Says which labels are final.
    kept : numpy.ndarray
        The labels of what was kept of the image (Z, Y, X): read, and written by `restore`.
    with_labels : bool
        Whether to save labels. If not, the sums of all tiles stay, from which more than labels can be made.

    Attributes
    ----------
    file : RunFile
        Where.
    """

    def __init__(
        self,
        file: RunFile,
        grid: Grid,
        accumulator: Accumulator,
        finality: Finality,
        kept: npt.NDArray[Any],
        with_labels: bool = True,
    ) -> None:
        self.file = file
        self._accumulator = accumulator
        self._finality = finality
        self._kept = kept
        self._with_labels = with_labels
        self._edges = [
            np.unique([*starts, *(start + length for start in starts)]).tolist()
            for starts, length in zip(grid.starts, grid.patch, strict=True)
        ]
        self._row = len(grid.starts[1]) * len(grid.starts[2])
        self._tiles: list[Tile] = []
        self._labels: list[Box] = []
        self._stored: set[Box] = set()
        self._seconds = 0.0  # that the last save took
        self._saved = time.perf_counter()

    def restore(self, tiles: tuple[Tile, ...]) -> set[int]:
        """Restore the saved labels and sums.

        Parameters
        ----------
        tiles : tuple of Tile
            All of the grid.

        Returns
        -------
        set of int
            Indices of the computed tiles.
        """
        if self.file.has_labels and not self._with_labels:
            self.file.discard()  # the sums that were made labels of are gone, and all are asked for
        done = set(self.file.tiles)
        for index in sorted(done):
            self._finality.done(tiles[index])
        for box, labels in self.file.labels():
            self._kept[box.slices] = labels
            self._finality.settle(box)
        to_come = [tile.start[0] for tile in tiles if tile.index not in done]
        self._accumulator.forget(min([self._finality.needed, *to_come]))
        for box, sums in self.file.sums():
            self._accumulator.restore(box, sums)
            self._stored.add(box)
        return done

    def note(self, tile: Tile | None, complete: list[Box]) -> None:
        """Take note of a tile that was added to the sums, and of boxes whose labels nothing can change any more."""
        if tile is not None:
            self._tiles.append(tile)
        if self._with_labels:
            self._labels += complete
        waited = time.perf_counter() - self._saved
        if len(self._tiles) >= self._row or waited > max(_LEAST_SECONDS, self._seconds / _SHARE_OF_TIME):
            self.save()

    def save(self) -> None:
        """Save what is new."""
        if not (self._tiles or self._labels) or self.file.problem is not None:
            return
        start = time.perf_counter()
        changed = set(itertools.chain.from_iterable(self._blocks(tile) for tile in self._tiles))
        touched = changed | self._stored
        gone = {box for box in touched if self._with_labels and self._finality.finished(box)}
        saved = self.file.save(
            [tile.index for tile in self._tiles],
            ((box, self._kept[box.slices]) for box in self._labels),
            ((box, self._accumulator.copy_of(box)) for box in sorted(changed - gone)),
            sorted(gone & self._stored),
        )
        if saved:
            self._stored = touched - gone
            self._tiles, self._labels = [], []
        self._saved = time.perf_counter()
        self._seconds = self._saved - start

    def _blocks(self, tile: Tile) -> list[Box]:
        """The blocks that a tile consists of."""
        sides = []
        for edges, start, size in zip(self._edges, tile.start, tile.size, strict=True):
            own = [edge for edge in edges if start <= edge <= start + size]
            sides.append(list(itertools.pairwise(own)))
        return list(itertools.starmap(Box, itertools.product(*sides)))
