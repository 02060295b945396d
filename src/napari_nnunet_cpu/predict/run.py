"""A run: segments a case with one network. Every segmentation consists of such runs."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import Engine
from napari_nnunet_cpu.events import Stage, TileDone
from napari_nnunet_cpu.export import ScratchArray
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.control import RunControl
from napari_nnunet_cpu.predict.passes import PauseGate, TilePasses, in_streams, mirrored_axes
from napari_nnunet_cpu.predict.planning import Estimate
from napari_nnunet_cpu.predict.progress import Progress
from napari_nnunet_cpu.predict.record import record_of, remember_run
from napari_nnunet_cpu.predict.result import Result, provenance
from napari_nnunet_cpu.predict.setup import set_up
from napari_nnunet_cpu.predict.tiles import Grid, Tile
from napari_nnunet_cpu.prepare import reader_order
from napari_nnunet_cpu.resources import Stopwatch
from napari_nnunet_cpu.settings import Settings


class Run:
    """Segments one case with one network.

    The constructor crops the case, plans the run and prepares the image. `compute` computes the tiles, and
    exports labels once they are final. `Segmentation` makes the runs of cascades and ensembles.

    Parameters
    ----------
    case : Case
        The case to segment.
    model : TrainedModel
        The network.
    settings : Settings, optional
        By default those of the preset exact.
    engine : Engine, optional
        Computes the network; by default the settings choose one.
    first_stage : numpy.ndarray, optional
        For a cascade: labels of its first stage, shape of the case (Z, Y, X).
    any_order : bool
        Whether tiles may come in any order, and others may be chosen later; if not, memory may hold a few rows.
    folder : Path, optional
        Folder of the run file, from which an interrupted run of the same case, model and settings resumes.

    Attributes
    ----------
    settings : Settings
        The settings, with the box and cover chosen last.
    geometry : Geometry
        The position of the prepared image in the case.
    plan : RunPlan
        The grid, the memory to be held, and the estimate.
    saving : RunSaver or None
        Saves the run; None without a folder.
    first_final_seconds : float or None
        Seconds from the construction to the first final labels.

    Raises
    ------
    CaseError
        When the case, or the labels of the first stage, do not fit the model or the memory.
    MemoryBudgetError
        When the run needs more memory than its budget, or more disk than there is.
    ModelError
        When the plans resample images, but not logits.
    SettingsError
        When the box exceeds the image, or a tile has a single pass, so that there is no disagreement.
    """

    def __init__(
        self,
        case: Case,
        model: TrainedModel,
        settings: Settings | None = None,
        engine: Engine | None = None,
        *,
        first_stage: npt.NDArray[Any] | None = None,
        any_order: bool = True,
        folder: Path | None = None,
    ) -> None:
        self.case = case = case.seen_by(model.plans.image_reader_writer)
        self.model = model
        self.settings = settings = settings or Settings()
        self.first_final_seconds: float | None = None
        self._start = time.perf_counter()
        self._stopwatch = Stopwatch()
        parts = set_up(case, model, settings, engine, first_stage, any_order, folder, self._stopwatch)
        self._parts, self._output, self._tiles = parts, parts.output, parts.tiles
        self.geometry, self.plan, self.saving = parts.geometry, parts.plan, parts.saver

    @property
    def engine(self) -> Engine:
        """The engine, made on first use. Raises `ModelError`, `DeviceError` or `EngineError` if that fails."""
        return self._parts.engine.get()

    @property
    def grid(self) -> Grid:
        """The sliding window over the prepared image."""
        return self.plan.grid

    @property
    def estimate(self) -> Estimate:
        """The cost of the run."""
        return self.plan.estimate

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """The tiles of this run, in grid order."""
        return self._tiles.chosen

    @property
    def tiles_done(self) -> int:
        """Number of computed tiles of this run."""
        return self._tiles.done_count

    @property
    def complete(self) -> bool:
        """Whether every tile of the run is computed."""
        return self.tiles_done == len(self.tiles)

    def choose(self, box: Box | None = None, cover: bool = False) -> None:
        """Choose other tiles, for a box and cover as in `Settings`; computed tiles stay.

        Raises `SettingsError` when the box exceeds the image, or memory holds no sums for further tiles.
        """
        settings = replace(self.settings, box=box, cover=cover)
        self._tiles.choose(settings, saved=self.saving is not None)
        self.settings = settings
        self._output.choose(settings, self.tiles)

    def compute(
        self, order: Sequence[Tile] | None = None, control: RunControl | None = None
    ) -> Generator[TileDone, None, None]:
        """Compute the missing tiles. Only one thread at a time may do so.

        Parameters
        ----------
        order : sequence of Tile, optional
            Tiles to compute, in this order; by default the tiles of the run, in the order of the focus.
        control : RunControl, optional
            Sets the focus and stops the run. Unfinished tiles are then dropped; another call resumes the run.

        Yields
        ------
        TileDone
            After every tile, and before the first one if a resumed run has final labels.

        Raises
        ------
        SettingsError
            When a tile is not in the grid, or its rows are not in memory.
        ModelError, DeviceError, EngineError
            When the engine can't be made, or the network fails.
        """
        control = control or RunControl()
        todo = self._tiles.left(self.tiles if order is None else order)
        engine, done = self.engine, self._tiles.done
        self._output.finality.plan((*self.tiles, *todo))
        progress = Progress(done, self.tiles, todo)
        if final := self._export_ready():
            yield progress.event(final, estimated=(self.estimate.seconds or 0.0) / max(len(self.tiles), 1))
        # With a few rows of sums, labels are exported row by row, because this costs less and no slice comes first.
        at_once = self.plan.memory.kind != "rows"
        gate = PauseGate(control.should_stop)
        axes = mirrored_axes(self.model, self.settings)
        passes = TilePasses(engine, self._parts.patches, axes, self._output.disagreement, gate.stops)
        try:
            tiles = self._tiles.in_focus_order(todo, lambda: control.focus if order is None else None)
            with closing(in_streams(tiles, passes.of, engine.streams)) as computed, gate:
                for tile, channels in self._stopwatch.timed(Stage.PREDICT, computed):
                    if channels is None:
                        return
                    if tile.index in done:  # because another iterator computed it meanwhile
                        continue
                    with self._stopwatch.timing(Stage.PREDICT):
                        self._output.add(tile, *channels)
                        done.add(tile.index)
                    final = self._export_ready(tile, progress.ends_row(tile) or at_once)
                    if progress.finished:
                        remember_run(self.case, self.model, self.settings, self._parts, self._stopwatch.seconds)
                    with gate.shut():  # so that a paused run computes nothing
                        yield progress.event(final)
        finally:
            if self.saving is not None:
                self.saving.save()

    def labels(self) -> npt.NDArray[Any]:
        """Labels of all tiles so far, shape of the case (Z, Y, X); background where no tile lies."""
        with self._stopwatch.timing(Stage.EXPORT):
            return self._output.labels()

    @property
    def final_labels(self) -> npt.NDArray[Any]:
        """Final labels, elsewhere background: a read-only view, shape of the case (Z, Y, X)."""
        return self._output.final_labels

    def uncertainty(self) -> npt.NDArray[np.float32]:
        """Uncertainty of all tiles so far: shape of the case (Z, Y, X), float32 in [0, 1], uncalibrated.

        It is 0 outside the chosen box and the cropped image. Raises `SettingsError` if the settings do not ask for it.
        """
        with self._stopwatch.timing(Stage.EXPORT):
            return self._output.uncertainty()

    @property
    def final_uncertainty(self) -> npt.NDArray[np.float32]:
        """Uncertainty where labels are final, as `final_labels`; raises `SettingsError` as `uncertainty` does."""
        return self._output.final_uncertainty

    def probabilities(self) -> ScratchArray:
        """Probabilities of all tiles so far, shape (heads, Z, Y, X) of the case; later tiles change the array.

        Softmax, or for regions the sigmoid of each; equal where no tile lies. Raises `SettingsError` if the settings do
        not ask for them.
        """
        return self._output.probabilities()

    def result(self) -> Result:
        """Labels of all tiles so far, with names and provenance."""
        labels, uncertainty = self.labels(), None if self.settings.uncertainty is None else self.uncertainty()
        history, order = provenance(self.case, self.settings, [self.record()]), reader_order(self.case, self.model)
        return Result(labels, dict(self.model.labels.names), history, self.case, order, uncertainty=uncertainty)

    def record(self) -> dict[str, Any]:
        """The record of the run for reports: plain values, ready for JSON."""
        seconds = {name: round(seconds, 3) for name, seconds in self._stopwatch.seconds.items()}
        return record_of(self.model, self._parts, first_final_seconds=self.first_final_seconds, seconds=seconds)

    def _export_ready(self, tile: Tile | None = None, due: bool = True) -> tuple[Box, ...]:
        """Export the labels that this tile made final, save them, and return their boxes in the case."""
        with self._stopwatch.timing(Stage.EXPORT):
            complete = self._output.export_ready() if due else []
            if self.saving is not None:
                self.saving.note(tile, complete)
        boxes = self._output.report()
        if boxes and self.first_final_seconds is None:
            self.first_final_seconds = round(time.perf_counter() - self._start, 3)
        return boxes
