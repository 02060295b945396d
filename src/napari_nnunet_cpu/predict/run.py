"""A run: the line from a case through one network. Everything else stands on this class."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import Engine, choose_engine
from napari_nnunet_cpu.errors import CaseError, SettingsError
from napari_nnunet_cpu.events import Bounds, Stage, TileDone
from napari_nnunet_cpu.export import ProbabilityExport, Store, export_rows
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.accumulate import Accumulator
from napari_nnunet_cpu.predict.cost import estimate_run, export_of
from napari_nnunet_cpu.predict.finality import Finality
from napari_nnunet_cpu.predict.grid import Grid, Tile
from napari_nnunet_cpu.predict.memory import budget_bytes, check_budget, plan_memory
from napari_nnunet_cpu.predict.mirroring import mean_logits
from napari_nnunet_cpu.predict.padding import padded_part
from napari_nnunet_cpu.predict.result import Result, provenance
from napari_nnunet_cpu.predict.times import Times, Work, keep_times
from napari_nnunet_cpu.prepare import Geometry, prepare, reader_order
from napari_nnunet_cpu.resources import Stopwatch, resident_bytes
from napari_nnunet_cpu.settings import Settings


def _never() -> bool:
    return False


class Run:
    """Segments one case with one network.

    The case is prepared on construction; `compute` then goes through the tiles and exports the labels that no
    later tile can change, and `result` gives them. `segment` makes the runs of cascades and ensembles.

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
    estimate : Estimate
        What the run costs, and what it does to keep to the memory it may take.

    Raises
    ------
    CaseError
        When the case or the labels of the first stage do not fit the model, or not into memory.
    MemoryBudgetError
        When the run needs more memory than it may take, or than the disk has in its place.
    ModelError
        When the plans do not lead back to the image.
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
        self._start = time.perf_counter()
        self._first_final_seconds: float | None = None
        self._stopwatch = Stopwatch()
        self._engine = engine
        # A given engine is not what the settings stand for, so that its times tell nothing of later runs.
        self._remembers = engine is None
        self._done: set[int] = set()
        self._resident = resident_bytes()
        try:
            with self._stopwatch.timing(Stage.PREPARE):
                prepared = prepare(case, model, first_stage, self._plan)
            self.geometry = prepared.geometry
            self.tiles = self.grid.covering_tiles() if self.settings.cover else self.grid.tiles()
            self._image = prepared.image
            self._finality = Finality(self.grid, self._export, self.geometry.cropped_shape[0], self.tiles)
            self._labels = np.zeros(case.shape, dtype=model.labels.dtype)
            self._accumulator = Accumulator(
                self.grid,
                model.labels.heads,
                self._memory.depth,
                self._memory.kind == "disk",
            )
            self._probabilities = self._kept_probabilities()
        except MemoryError as error:
            raise CaseError(
                f"{case.name} does not fit into memory at the model's spacing: {error}; close other programs, "
                "cut the image, or check its spacing"
            ) from error

    def _plan(self, geometry: Geometry) -> None:
        """Decide what is held at a time, before anything of its size is made."""
        self.grid = Grid.for_image(geometry.shape, self.model.configuration.patch_size, self.settings.step)
        self._export = export_of(self.model, self.settings, geometry)
        self._budget = budget_bytes(self.settings)
        self._memory = plan_memory(
            self.case, self.model, self.settings, geometry, self.grid, self._export, self._budget
        )
        check_budget(self._memory, self._budget, self.case, self.settings)
        self.estimate = estimate_run(self.case, self.model, self.settings, geometry, self.grid, self._memory)

    def _kept_probabilities(self) -> Store | None:
        """Where the probabilities go, if they are kept."""
        if not isinstance(self._export, ProbabilityExport):
            return None
        store = Store((self.model.labels.heads, *self.case.shape), self._memory.probabilities_on_disk)
        self._export.keep_in(store)
        return store

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
                self._engine = choose_engine(self.model, self.settings, self.crops)
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
            When a tile is not one of the grid's, or memory has no room for the rows that it touches.
        ModelError, DeviceError, EngineError
            When the engine can't be made, or the network fails.
        """
        wanted = dict.fromkeys(self.tiles if order is None else order)
        if order is not None:
            self._check(wanted)
        engine = self.engine
        todo = [tile for tile in wanted if tile.index not in self._done]
        self._finality.plan(todo)
        self._accumulator.forget(self._finality.needed)
        total = len(self._done.union(tile.index for tile in (*self.tiles, *todo)))
        start = time.perf_counter()
        for count, tile in enumerate(todo, start=1):
            if tile.index in self._done:  # by another iterator, meanwhile
                continue
            if not self._accumulator.holds(tile):
                raise SettingsError(
                    f"{tile} is too far from the rows at hand: memory holds only some; "
                    "compute tiles in the order of run.tiles, or allow more memory"
                )
            with self._stopwatch.timing(Stage.PREDICT):
                logits = mean_logits(engine, self._patch(tile), self.mirror_axes, should_stop)
                if logits is None:
                    return
                self._accumulator.add(tile, logits.reshape(-1, *tile.size))
                self._done.add(tile.index)
            with self._stopwatch.timing(Stage.EXPORT):
                final = self._export_final(tile)
            if len(self._done) == total and self.complete:
                self._remember()
            pace = (time.perf_counter() - start) / count
            yield TileDone(len(self._done), total, pace * (len(todo) - count), final=final)

    def crops(self, size: tuple[int, ...], most: int) -> Iterator[npt.NDArray[np.float32]]:
        """Parts of the prepared image, as the network takes them, in an order that goes all over it.

        Parameters
        ----------
        size : tuple of int
            Of each part: (Z, Y, X), or (Y, X) for 2d; at most the patch.
        most : int
            At most so many.

        Yields
        ------
        numpy.ndarray
            Shape (C, *size).
        """
        for place in self.grid.spread(size, most):
            yield np.ascontiguousarray(self._part(place))

    def labels(self) -> npt.NDArray[Any]:
        """Labels of what is computed so far: shape of the case (Z, Y, X); where no tile lies, background."""
        with self._stopwatch.timing(Stage.EXPORT):
            labels = self._labels.copy()
            kept = self.geometry.kept(labels)
            for start, stop in self._finality.open_rows:
                export_rows(self._export, self._accumulator.rows, kept, start, stop)
            return labels

    @property
    def final_labels(self) -> npt.NDArray[Any]:
        """Labels in the boxes that events called final, 0 elsewhere: shape of the case, a view to be read."""
        view = self._labels.view()
        view.flags.writeable = False
        return view

    def probabilities(self) -> Store:
        """Probabilities of what is computed so far: shape (heads, Z, Y, X) on the grid of the case.

        Softmax, or for regions the sigmoid of each; where no tile lies all heads are equal. They go on with
        what is computed.

        Raises
        ------
        SettingsError
            When the settings did not ask for them.
        """
        if self._probabilities is None:
            raise SettingsError("this run keeps no probabilities; make it with Settings(probabilities=True)")
        self.labels()  # and with them the probabilities of what is not final
        return self._probabilities

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
            "agreement": None if self.engine.agreement is None else asdict(self.engine.agreement),
            "threads": self.engine.threads,
            "tiles": len(self.tiles),
            "tiles_done": len(self._done),
            "passes_per_tile": self._passes_per_tile,
            "classes": self.model.labels.heads,
            "memory": {
                "plan": self.estimate.plan,
                "rows": self._memory.depth,
                "probabilities_on_disk": self._memory.probabilities_on_disk,
            },
            "estimate": asdict(self.estimate) | {"budget_bytes": self._budget, "bytes_before": self._resident},
            "first_final_seconds": self._first_final_seconds,
            "seconds": {name: round(seconds, 3) for name, seconds in self._stopwatch.seconds.items()},
        }

    def _export_final(self, tile: Tile) -> Bounds | None:
        """Make the labels that are final with this tile and forget the sums that no others need; where they lie."""
        rows = self._finality.done(tile)
        if rows is None:
            return None
        export_rows(self._export, self._accumulator.rows, self.geometry.kept(self._labels), *rows)
        self._finality.settle(*rows)
        self._accumulator.forget(self._finality.needed)
        if self._first_final_seconds is None:
            self._first_final_seconds = round(time.perf_counter() - self._start, 3)
        return self.geometry.case_box(*rows)

    def _check(self, tiles: Iterable[Tile]) -> None:
        """Refuse tiles of another grid, and further ones than the run's where sums are not all held."""
        foreign = set(tiles) - set(self.grid.tiles())
        if foreign:
            raise SettingsError(f"{min(foreign, key=str)} is not a tile of the grid; take tiles of run.grid.tiles()")
        if self._memory.kind == "rows" and not set(tiles) <= set(self.tiles):
            raise SettingsError(
                "sums of finished rows are forgotten for want of memory, and no further tiles can be added to them; "
                "take tiles of run.tiles, or allow more memory"
            )

    def _remember(self) -> None:
        if self._remembers:
            passes = len(self._done) * self._passes_per_tile
            work = Work.counted(self.case, self.model, self.settings, self.geometry, passes)
            keep_times(self.model, self.settings, Times.measured(self._stopwatch.seconds, work))

    @property
    def _passes_per_tile(self) -> int:
        return self.engine.folds * int(2 ** len(self.mirror_axes))

    def _patch(self, tile: Tile) -> npt.NDArray[np.float32]:
        """The tile's part of the image, as the network takes it: (C, Z, Y, X), or (C, Y, X) for 2d."""
        return self._part(tile.slices())

    def _part(self, place: tuple[slice, slice, slice]) -> npt.NDArray[np.float32]:
        part = padded_part(self._image, self.grid, place)
        return part[:, 0] if len(self.model.configuration.patch_size) == 2 else part
