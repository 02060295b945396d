"""A run: the line from a case through one network. Everything else stands on this class."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
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
from napari_nnunet_cpu.predict.passes import (
    PauseGate,
    Stop,
    TilePasses,
    in_streams,
    mirrored_axes,
    never,
)
from napari_nnunet_cpu.predict.planning import Estimate, Times, Work, keep_times
from napari_nnunet_cpu.predict.record import record_of
from napari_nnunet_cpu.predict.result import Result, provenance
from napari_nnunet_cpu.predict.setup import set_up
from napari_nnunet_cpu.predict.tiles import Focus, Grid, Tile
from napari_nnunet_cpu.prepare import reader_order
from napari_nnunet_cpu.resources import Stopwatch
from napari_nnunet_cpu.settings import Settings

Array = npt.NDArray[Any]


class Run:
    """Segments one case with one network.

    The case is cropped, the run planned and the image prepared on construction. `compute` then goes through the tiles
    and exports the labels that no later tile can change; `result` gives them. `Segmentation` makes the runs of
    cascades and ensembles.

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
    any_order : bool
        Whether tiles may come in any order and others be chosen later. If not, memory holds only the rows of sums
        that tiles touch which come row by row.
    folder : Path, optional
        Where to save the run while it goes on, and to resume it when a run of the same case, model and settings was
        ended half-way.

    Attributes
    ----------
    settings : Settings
        How; box and cover are those that were chosen last.
    geometry : Geometry
        Where the prepared image lies in the case.
    plan : RunPlan
        The grid, the memory to be held, and the estimate.
    saving : RunSaver or None
        Saves the run, where it has a folder.
    focus : Focus or None
        What is looked at: tiles that decide it come first. It may be set at any time, by any thread.
    first_final_seconds : float or None
        From construction to the first labels that were final.

    Raises
    ------
    CaseError
        When the case or the labels of the first stage do not fit the model, or not into memory.
    MemoryBudgetError
        When the run needs more memory than it may take, or than the disk has in its place.
    ModelError
        When the plans do not lead back to the image.
    SettingsError
        When the box reaches out of the case, or there is no disagreement to measure.
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
        self.focus: Focus | None = None
        self.first_final_seconds: float | None = None
        self._start = time.perf_counter()
        self._stopwatch = Stopwatch()
        self._engine_given = engine is not None
        parts = set_up(case, model, settings, engine, first_stage, any_order, folder, self._stopwatch)
        self._parts, self._output, self._tiles = parts, parts.output, parts.tiles
        self.geometry, self.plan, self.saving = parts.geometry, parts.plan, parts.saver

    @property
    def engine(self) -> Engine:
        """What computes the network; made, with the weights read, on first use.

        Raises
        ------
        ModelError, DeviceError, EngineError
            When it can't be made.
        """
        return self._parts.engine.get()

    @property
    def grid(self) -> Grid:
        """The sliding window over the prepared image."""
        return self.plan.grid

    @property
    def estimate(self) -> Estimate:
        """What the run costs."""
        return self.plan.estimate

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Patch axes that this run mirrors."""
        return mirrored_axes(self.model, self.settings)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """The tiles of this run, in grid order."""
        return self._tiles.chosen

    @property
    def tiles_done(self) -> int:
        """How many of the run's tiles are computed."""
        return self._tiles.done_count

    @property
    def complete(self) -> bool:
        """Whether every tile of the run is computed."""
        return self.tiles_done == len(self.tiles)

    def choose(self, box: Box | None = None, cover: bool = False) -> None:
        """Choose the run's tiles anew: those of a box, of a draft, or all. Computed tiles stay, and count.

        Parameters
        ----------
        box : tuple of (int, int), optional
            See `Settings`.
        cover : bool
            See `Settings`.

        Raises
        ------
        SettingsError
            When the box reaches out of the case, or memory does not hold the sums that further tiles belong to.
        """
        settings = replace(self.settings, box=box, cover=cover)
        self._tiles.choose(settings, saved=self.saving is not None)
        self.settings = settings
        self._output.choose(settings, self.tiles)
        self._output.report_again()

    def compute(self, order: Sequence[Tile] | None = None, should_stop: Stop = never) -> Iterator[TileDone]:
        """Compute the tiles that are not computed yet. One thread at a time may do so.

        Parameters
        ----------
        order : sequence of Tile, optional
            Which tiles, and in which order; when None those of the run, the ones first that decide the `focus`.
            None is computed twice.
        should_stop : callable, optional
            Asked before every pass through the network; once it says yes, tiles under way are dropped and the
            iterator ends. Computed tiles stay: calling again goes on.

        Yields
        ------
        TileDone
            After every tile; before the first one if there are labels that are final by then.

        Raises
        ------
        SettingsError
            When a tile is not one of the grid's, or memory has no room for the rows that it touches.
        ModelError, DeviceError, EngineError
            When the engine can't be made, or the network fails.
        """
        todo = self._tiles.left(self.tiles if order is None else order)
        engine, done = self.engine, self._tiles.done
        self._output.finality.plan((*self.tiles, *todo))
        total = len(done.union(tile.index for tile in (*self.tiles, *todo)))
        final = self._export_ready()
        if final:
            seconds = self.plan.estimate.seconds or 0.0
            yield TileDone(len(done), total, seconds * len(todo) / max(len(self.tiles), 1), final=final)
        # Where nobody waits for a slice the labels of a row of tiles are made at once, which costs less.
        in_row = Counter(tile.start[0] for tile in todo) if self.plan.memory.kind == "rows" else Counter[int]()
        gate = PauseGate(should_stop)
        passes = TilePasses(engine, self._parts.patches, self.mirror_axes, self._output.disagreement, gate.stops)
        start = time.perf_counter()
        try:
            tiles = self._tiles.in_focus_order(todo, lambda: self.focus if order is None else None)
            with closing(in_streams(tiles, passes.of, engine.streams)) as computed, gate:
                for tile, channels in self._stopwatch.timed(Stage.PREDICT, computed):
                    if channels is None:
                        return
                    if tile.index in done:  # by another iterator meanwhile
                        continue
                    with self._stopwatch.timing(Stage.PREDICT):
                        self._output.add(tile, *channels)
                        done.add(tile.index)
                    in_row[tile.start[0]] -= 1
                    final = self._export_ready(tile, in_row[tile.start[0]] <= 0)
                    if len(done) == total and self.complete:
                        self._remember_times()
                    left = sum(tile.index not in done for tile in todo)
                    pace = (time.perf_counter() - start) / (len(todo) - left)
                    with gate.shut():  # a run that is paused here computes nothing
                        yield TileDone(len(done), total, pace * left, final=final)
        finally:
            if self.saving is not None:
                self.saving.save()

    def labels(self) -> npt.NDArray[Any]:
        """Labels of all tiles so far: shape of the case (Z, Y, X); where no tile lies, background."""
        with self._stopwatch.timing(Stage.EXPORT):
            return self._output.labels()

    @property
    def final_labels(self) -> npt.NDArray[Any]:
        """Labels in the boxes that events called final; elsewhere 0, or what an earlier choice of tiles made final.

        Shape of the case (Z, Y, X); a view that can't be written to.
        """
        return self._output.final_labels

    def uncertainty(self) -> npt.NDArray[np.float32]:
        """Uncertainty of all tiles so far, uncalibrated: shape of the case (Z, Y, X), float32 in [0, 1].

        0 around the box that was chosen and where cropping took something away; where no tile lies as of equal
        heads, which no passes disagree about.

        Raises
        ------
        SettingsError
            When the settings did not ask for it.
        """
        with self._stopwatch.timing(Stage.EXPORT):
            return self._output.uncertainty()

    @property
    def final_uncertainty(self) -> npt.NDArray[np.float32]:
        """Uncertainty where labels are final, as `final_labels`: shape of the case (Z, Y, X).

        Raises
        ------
        SettingsError
            When the settings did not ask for it.
        """
        return self._output.final_uncertainty

    def probabilities(self) -> ScratchArray:
        """Probabilities of all tiles so far: shape (heads, Z, Y, X) on the grid of the case; they go on with the run.

        Softmax, or for regions the sigmoid of each; where no tile lies all heads are equal.

        Raises
        ------
        SettingsError
            When the settings did not ask for them.
        """
        return self._output.probabilities()

    def result(self) -> Result:
        """Labels of all tiles so far, with names and provenance."""
        labels = self.labels()
        return Result(
            labels,
            dict(self.model.labels.names),
            provenance(self.case, self.settings, [self.record()]),
            self.case,
            reader_order(self.case, self.model),
            uncertainty=None if self.settings.uncertainty is None else self.uncertainty(),
        )

    def record(self) -> dict[str, Any]:
        """What this run did, with what: plain values, ready for JSON."""
        return record_of(
            self.model,
            self._parts,
            first_final_seconds=self.first_final_seconds,
            seconds={name: round(seconds, 3) for name, seconds in self._stopwatch.seconds.items()},
        )

    def _export_ready(self, tile: Tile | None = None, due: bool = True) -> tuple[Box, ...]:
        """Export the labels that are final now, with this tile, save it, and give their boxes in the case."""
        with self._stopwatch.timing(Stage.EXPORT):
            for_good = self._output.export_ready() if due else []
            if self.saving is not None:
                self.saving.note(tile, for_good)
        boxes = self._output.report()
        if boxes and self.first_final_seconds is None:
            self.first_final_seconds = round(time.perf_counter() - self._start, 3)
        return boxes

    def _remember_times(self) -> None:
        if not self._engine_given and self.settings.box is None:
            passes = (len(self._tiles.done) - self._parts.tiles_resumed) * self._parts.passes_per_tile
            work = Work.counted(self.case, self.model, self.settings, self.geometry, passes)
            keep_times(self.model, self.settings, Times.measured(self._stopwatch.seconds, work))
