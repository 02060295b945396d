"""A run: the line from a case through one network. Everything else stands on this class."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import Engine, choose_engine
from napari_nnunet_cpu.errors import CaseError, SettingsError
from napari_nnunet_cpu.events import Stage, TileDone
from napari_nnunet_cpu.export import export_labels, export_probabilities
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.accumulate import Accumulator, DenseAccumulator
from napari_nnunet_cpu.predict.grid import Grid, Tile
from napari_nnunet_cpu.predict.mirroring import mean_logits
from napari_nnunet_cpu.predict.result import Result, provenance
from napari_nnunet_cpu.prepare import prepare, reader_order
from napari_nnunet_cpu.resources import Stopwatch
from napari_nnunet_cpu.settings import Settings


def _never() -> bool:
    return False


class Run:
    """Segments one case with one network.

    The case is prepared on construction; `compute` then goes through the tiles, and `result`
    exports what they add up to. `segment` makes the runs of cascades and ensembles.

    Parameters
    ----------
    case : Case
        What to segment.
    model : TrainedModel
        With what.
    settings : Settings, optional
        How; nnU-Net's own way by default.
    engine : Engine, optional
        What computes the network; chosen by the settings when None.
    first_stage : numpy.ndarray, optional
        For a cascade: labels of its first stage, shape of the case (Z, Y, X).

    Attributes
    ----------
    grid : Grid
        The sliding window over the prepared image.
    tiles : tuple of Tile
        The tiles of this run, in grid order.

    Raises
    ------
    CaseError
        When the case or the labels of the first stage do not fit the model, or not into memory.
    """

    def __init__(
        self,
        case: Case,
        model: TrainedModel,
        settings: Settings | None = None,
        engine: Engine | None = None,
        *,
        first_stage: npt.NDArray[Any] | None = None,
    ) -> None:
        self.case = case
        self.model = model
        self.settings = settings or Settings()
        self._stopwatch = Stopwatch()
        self._engine = engine
        self._done: set[int] = set()
        try:
            with self._stopwatch.timing(Stage.PREPARE):
                prepared = prepare(case, model, first_stage)
                self.geometry = prepared.geometry
                self.grid = Grid.for_image(self.geometry.shape, model.configuration.patch_size, self.settings.step)
                self.tiles = self.grid.covering_tiles() if self.settings.cover else self.grid.tiles()
                self._image = self._padded(prepared.image)
            self._accumulator: Accumulator = DenseAccumulator(self.grid, model.labels.heads)
        except MemoryError as error:
            raise CaseError(
                f"{case.name} does not fit into memory at the model's spacing: {error}; close other programs, "
                "cut the image, or check its spacing"
            ) from error

    @property
    def engine(self) -> Engine:
        """What computes the network; made, with the weights read, on first use.

        Raises
        ------
        ModelError, DeviceError, EngineError
            When it can't be made.
        """
        if self._engine is None:
            with self._stopwatch.timing(Stage.LOAD):
                self._engine = choose_engine(self.model, self.settings)
        return self._engine

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Patch axes that this run mirrors."""
        return self.model.mirror_axes if self.settings.mirror else ()

    @property
    def complete(self) -> bool:
        """Whether every tile of the run is computed."""
        return all(tile.index in self._done for tile in self.tiles)

    def compute(
        self, order: Sequence[Tile] | None = None, should_stop: Callable[[], bool] = _never
    ) -> Iterator[TileDone]:
        """Compute the tiles that are not computed yet. One thread at a time may do so.

        Parameters
        ----------
        order : sequence of Tile, optional
            Which tiles, and in which order; those of the run when None. None is computed twice.
        should_stop : callable, optional
            Asked before every pass through the network; once it says yes the tile at hand is
            dropped and the iterator ends. What is done stays: calling again goes on.

        Yields
        ------
        TileDone
            After every tile.

        Raises
        ------
        SettingsError
            When a tile is not one of the grid's.
        ModelError, DeviceError, EngineError
            When the engine can't be made, or the network fails.
        """
        wanted = dict.fromkeys(self.tiles if order is None else order)
        foreign = wanted.keys() - set(self.grid.tiles()) if order is not None else ()
        if foreign:
            raise SettingsError(f"{min(foreign, key=str)} is not a tile of the grid; take tiles of run.grid.tiles()")
        engine = self.engine
        todo = [tile for tile in wanted if tile.index not in self._done]
        total = len(self._done.union(tile.index for tile in (*self.tiles, *todo)))
        start = time.perf_counter()
        for count, tile in enumerate(todo, start=1):
            if tile.index in self._done:  # by another iterator, meanwhile
                continue
            with self._stopwatch.timing(Stage.PREDICT):
                logits = mean_logits(engine, self._patch(tile), self.mirror_axes, should_stop)
                if logits is None:
                    return
                self._accumulator.add(tile, logits.reshape(-1, *tile.size))
                self._done.add(tile.index)
            pace = (time.perf_counter() - start) / count
            yield TileDone(len(self._done), total, pace * (len(todo) - count))

    def labels(self) -> npt.NDArray[Any]:
        """Labels of what is computed so far: shape of the case (Z, Y, X); where no tile lies, background."""
        with self._stopwatch.timing(Stage.EXPORT):
            return export_labels(self._accumulator.rows, self.model, self.geometry)

    def probabilities(self) -> npt.NDArray[np.float32]:
        """Probabilities of what is computed so far: shape (heads, Z, Y, X) on the grid of the case.

        Softmax, or for regions the sigmoid of each; where no tile lies all heads are equal.
        """
        with self._stopwatch.timing(Stage.EXPORT):
            return export_probabilities(self._accumulator.rows, self.model, self.geometry)

    def result(self) -> Result:
        """Labels of what is computed so far, with names and provenance."""
        labels = self.labels()
        return Result(
            labels,
            dict(self.model.labels.names),
            provenance(self.case, self.settings, [self.record()]),
            self.case,
            reader_order(self.case, self.model),
        )

    def record(self) -> dict[str, Any]:
        """What this run did, with what: plain values, ready for JSON."""
        return {
            "model": self.model.describe() | {"weights_sha256": self.model.weights_sha256},
            "prepared_shape": list(self.geometry.shape),
            "engine": self.engine.name,
            "engine_reason": self.engine.reason,
            "device": self.engine.device,
            "precision": self.engine.precision,
            "threads": self.engine.threads,
            "tiles": len(self.tiles),
            "tiles_done": len(self._done),
            "passes_per_tile": self.engine.folds * 2 ** len(self.mirror_axes),
            "classes": self.model.labels.heads,
            "seconds": {name: round(seconds, 3) for name, seconds in self._stopwatch.seconds.items()},
        }

    def _padded(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The image (C, Z, Y, X) with zeros around it where it is smaller than the patch."""
        widths = [
            (before, total - before - length)
            for before, total, length in zip(self.grid.before, self.grid.padded, self.grid.shape, strict=True)
        ]
        return np.pad(image, [(0, 0), *widths]) if self.grid.padded != self.grid.shape else image

    def _patch(self, tile: Tile) -> npt.NDArray[np.float32]:
        """The tile's part of the image, as the network takes it: (C, Z, Y, X), or (C, Y, X) for 2d."""
        part = self._image[:, *tile.slices()]
        return part[:, 0] if len(self.model.configuration.patch_size) == 2 else part
