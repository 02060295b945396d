"""A run: the line from a case through one network. Everything else stands on this class."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Bounds, common, inside
from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import Engine
from napari_nnunet_cpu.errors import CaseError, SettingsError
from napari_nnunet_cpu.events import Stage, TileDone
from napari_nnunet_cpu.export import ScratchArray
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.output import Output
from napari_nnunet_cpu.predict.passes.mirroring import mean_output
from napari_nnunet_cpu.predict.passes.patches import Patches
from napari_nnunet_cpu.predict.passes.stop import Stop, never
from napari_nnunet_cpu.predict.passes.streams import PauseGate, in_streams
from napari_nnunet_cpu.predict.planning.memory import check_budget
from napari_nnunet_cpu.predict.planning.plan import plan_run
from napari_nnunet_cpu.predict.planning.time_model import Times, Work, keep_times
from napari_nnunet_cpu.predict.result import Result, provenance
from napari_nnunet_cpu.predict.resume.identity import identity_of
from napari_nnunet_cpu.predict.resume.run_file import RunFile
from napari_nnunet_cpu.predict.resume.saver import RunSaver
from napari_nnunet_cpu.predict.run_engine import RunEngine
from napari_nnunet_cpu.predict.tiles.grid import Tile
from napari_nnunet_cpu.predict.tiles.order import Focus
from napari_nnunet_cpu.predict.tiles.run_tiles import RunTiles
from napari_nnunet_cpu.predict.tiles.selection import kept_box
from napari_nnunet_cpu.predict.uncertainty import check_passes
from napari_nnunet_cpu.prepare import Geometry, prepare, reader_order
from napari_nnunet_cpu.resources import Stopwatch, resident_bytes
from napari_nnunet_cpu.settings import Settings

Array = npt.NDArray[Any]
Channels = tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]  # the network's, and those beside


class Run:
    """Segments one case with one network.

    The case is prepared on construction; `compute` then goes through the tiles and exports the labels that no
    later tile can change, and `result` gives them. `Segmentation` makes the runs of cascades and ensembles.

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
        Whether tiles may be computed in any order and others be chosen later. If not, only those rows are held
        that tiles which come row by row touch.
    folder : Path, optional
        Where to save what is computed, and to take it up from when a run of the same case, model and settings was
        ended half-way.

    Attributes
    ----------
    settings : Settings
        How; box and cover are those that were chosen last.
    grid : Grid
        The sliding window over the prepared image.
    estimate : Estimate
        What the run costs, and what it does to keep to the memory it may take.
    saving : RunSaver or None
        What saves the run, where it has a folder.
    focus : Focus or None
        What is looked at: tiles that decide it come first. It may be set at any time, by any thread.

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
        self.settings = settings or Settings()
        self.focus: Focus | None = None
        self._start = time.perf_counter()
        self._first_final_seconds: float | None = None
        self._stopwatch = Stopwatch()
        self._engine = RunEngine(model, self.settings, self._stopwatch, engine)
        check_passes(self.settings, self._passes_per_tile)
        self._any_order = any_order
        self.saving: RunSaver | None = None
        self._file: RunFile | None = None
        if folder is not None:
            identity = identity_of(case, model, self.settings, first_stage, self._engine.channels)
            self._file = RunFile(folder, identity)
            # What more can be made of may not be forgotten, and what came in any order is not to be had row by row.
            more = self.settings.cover or self.settings.probabilities or self.settings.box is not None
            more |= self.settings.uncertainty is not None
            self._any_order |= more or not self._file.about.get("in_rows", True)
        self._taken_up_count = 0
        self._resident = resident_bytes()
        try:
            with self._stopwatch.timing(Stage.PREPARE):
                prepared = prepare(case, model, first_stage, self._plan)
            self.geometry = prepared.geometry
            self._patches = Patches(prepared.image, self.grid, flat=len(model.configuration.patch_size) == 2)
            self._engine.patches = self._patches
            self._output = Output(
                model, self.settings, self.geometry, self.grid, self._export, self._memory, self._engine
            )
            if self._file is not None:
                self.saving = self._taken_up(self._file)
        except MemoryError as error:
            raise CaseError(
                f"{case.name} does not fit into memory at the model's spacing: {error}; close other programs, "
                "cut the image, or check its spacing"
            ) from error
        finally:
            if self._file is not None and self.saving is None:
                self._file.close()
        self._output.finality.want(kept_box(self.geometry, self.settings))
        self._output.finality.plan(self.tiles)

    def _plan(self, geometry: Geometry) -> None:
        """Decide what is held at a time, before anything of its size is made."""
        plan = plan_run(self.case, self.model, self.settings, geometry, self._engine.channels, self._any_order)
        check_budget(plan.memory, plan.budget, self.case, self.settings)
        self.grid, self.estimate = plan.grid, plan.estimate
        self._export, self._memory, self._budget = plan.export, plan.memory, plan.budget
        self._engine.streams = plan.memory.streams
        self._tiles = RunTiles(plan.grid, plan.export, geometry, plan.tiles, in_rows=self._memory.kind == "rows")

    def _taken_up(self, file: RunFile) -> RunSaver:
        """What saves the run from now on, with what an earlier run saved in its place."""
        file.describe(
            {
                "image": self.case.name,
                "shape": list(self.case.shape),
                "model": f"{self.model.name} {self.model.configuration_name}",
                "weights_sha256": self.model.weights_sha256,
                "tiles": len(self.grid),
                "in_rows": self._memory.kind == "rows",
            }
        )
        saving = RunSaver(
            file,
            self.grid,
            self._output.sums,
            self._output.finality,
            self.geometry.kept(self._output.labels),
            with_labels=self._output.only_labels,
        )
        self._tiles.done, self._output.fresh = saving.restore(self.grid.tiles())
        self._taken_up_count = len(self._tiles.done)
        return saving

    @property
    def engine(self) -> Engine:
        """What computes the network; made, with the weights read, on first use.

        Raises
        ------
        ModelError, DeviceError, EngineError
            When it can't be made.
        """
        return self._engine.get()

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Patch axes that this run mirrors."""
        return self.model.mirror_axes if self.settings.mirror else ()

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

    def choose(self, box: Bounds | None = None, cover: bool = False) -> None:
        """Choose the run's tiles anew: those of a box, of a draft, or all. What is computed stays, and counts.

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
        tiles = self._tiles.of(settings)
        if self.saving is not None and self._memory.kind == "rows" and tiles != self.tiles:
            raise SettingsError(
                "the run is saved, and sums of finished rows are forgotten for want of memory: no others than all its "
                "tiles can be chosen; start it with the box, or allow more memory"
            )
        self.settings, self._tiles.chosen = settings, tiles
        finality = self._output.finality
        finality.want(kept_box(self.geometry, settings))
        finality.plan(tiles)
        self._output.fresh = list(finality.final_boxes())  # of which only a part was asked for until now, perhaps

    def compute(self, order: Sequence[Tile] | None = None, should_stop: Stop = never) -> Iterator[TileDone]:
        """Compute the tiles that are not computed yet. One thread at a time may do so.

        Parameters
        ----------
        order : sequence of Tile, optional
            Which tiles, and in which order; when None those of the run, the ones first that decide the `focus`.
            None is computed twice.
        should_stop : callable, optional
            Asked before every pass through the network; once it says yes the tiles at hand are
            dropped and the iterator ends. What is done stays: calling again goes on.

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
        engine = self.engine
        self._output.finality.plan((*self.tiles, *todo))
        done = self._tiles.done
        total = len(done.union(tile.index for tile in (*self.tiles, *todo)))
        final = self._export_ready()
        if final:
            seconds = self.estimate.seconds or 0.0
            yield TileDone(len(done), total, seconds * len(todo) / max(len(self.tiles), 1), final=final)
        # Where nobody waits for a slice the labels of a row of tiles are made at once, which costs less.
        in_row = Counter(tile.start[0] for tile in todo) if self._memory.kind == "rows" else Counter[int]()
        gate = PauseGate(should_stop)
        output_of = partial(self._channels_of, engine=engine, should_stop=gate.stops)
        start = time.perf_counter()
        try:
            tiles = self._tiles.in_focus_order(todo, lambda: self.focus if order is None else None)
            with closing(in_streams(tiles, output_of, engine.streams)) as computed, gate:
                for tile, channels in self._stopwatch.timed(Stage.PREDICT, computed):
                    if channels is None:
                        return
                    if tile.index in done:  # by another iterator meanwhile
                        continue
                    self._add(tile, channels)
                    in_row[tile.start[0]] -= 1
                    final = self._export_ready(tile, in_row[tile.start[0]] <= 0)
                    if len(done) == total and self.complete:
                        self._remember()
                    left = sum(tile.index not in done for tile in todo)
                    pace = (time.perf_counter() - start) / (len(todo) - left)
                    with gate.shut():  # a run that is paused here computes nothing
                        yield TileDone(len(done), total, pace * left, final=final)
        finally:
            if self.saving is not None:
                self.saving.save()

    def labels(self) -> npt.NDArray[Any]:
        """Labels of what is computed so far: shape of the case (Z, Y, X); where no tile lies, background."""
        with self._stopwatch.timing(Stage.EXPORT):
            return self._in_box(self._output.labels_now())

    @property
    def final_labels(self) -> npt.NDArray[Any]:
        """Labels in the boxes that events called final; elsewhere 0, or what an earlier choice of tiles made final.

        Shape of the case (Z, Y, X); a view to be read.
        """
        view = self._output.labels.view()
        view.flags.writeable = False
        return view

    def uncertainty(self) -> npt.NDArray[np.float32]:
        """The uncertainty of what is computed so far, uncalibrated: shape of the case (Z, Y, X), float32 in [0, 1].

        0 around the box that was chosen and where cropping took something away; where no tile lies as of equal
        heads, which no passes disagree about.

        Raises
        ------
        SettingsError
            When the settings did not ask for it.
        """
        with self._stopwatch.timing(Stage.EXPORT):
            return self._in_box(self._output.uncertainty_now())

    @property
    def final_uncertainty(self) -> npt.NDArray[np.float32]:
        """Uncertainty where labels are final, as `final_labels`: shape of the case (Z, Y, X); a view to be read.

        Raises
        ------
        SettingsError
            When the settings did not ask for it.
        """
        view = self._output.final_uncertainty.view()
        view.flags.writeable = False
        return view

    def probabilities(self) -> ScratchArray:
        """Probabilities of what is computed so far: shape (heads, Z, Y, X) on the grid of the case.

        Softmax, or for regions the sigmoid of each; where no tile lies all heads are equal. They go on with
        what is computed.

        Raises
        ------
        SettingsError
            When the settings did not ask for them.
        """
        return self._output.probabilities_now()

    def result(self) -> Result:
        """Labels of what is computed so far, with names and provenance."""
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
        return {
            "model": self.model.describe() | {"weights_sha256": self.model.weights_sha256},
            "prepared_shape": list(self.geometry.shape),
            "engine": self.engine.name,
            "engine_reason": self.engine.reason,
            "device": self.engine.device,
            "precision": self.engine.precision,
            "agreement": None if self.engine.agreement is None else asdict(self.engine.agreement),
            "threads": self.engine.threads,
            "streams": self.engine.streams,
            "tiles": len(self.tiles),
            "tiles_done": self.tiles_done,
            "tiles_taken_up": self._taken_up_count,
            "passes_per_tile": self._passes_per_tile,
            "classes": self.model.labels.heads,
            "accumulated_channels": self._engine.channels,
            "memory": {
                "plan": self.estimate.plan,
                "rows": self._memory.depth,
                "probabilities_on_disk": self._memory.probabilities_on_disk,
            },
            "estimate": asdict(self.estimate) | {"budget_bytes": self._budget, "bytes_before": self._resident},
            "first_final_seconds": self._first_final_seconds,
            "seconds": {name: round(seconds, 3) for name, seconds in self._stopwatch.seconds.items()},
        }

    def _channels_of(self, tile: Tile, engine: Engine, should_stop: Stop) -> Channels | None:
        """What is summed of a tile: its logits or features and, where asked for, how far its passes disagree."""
        measured = self._output.measured
        passes = None if measured is None else measured.of_a_tile()
        watch = None if passes is None else passes.show
        mean = mean_output(engine, self._patches.of(tile), self.mirror_axes, should_stop, watch)
        if mean is None:
            return None
        beside = [] if passes is None else [passes.value().reshape(tile.size)]
        return mean.reshape(-1, *tile.size), beside

    def _add(self, tile: Tile, channels: Channels) -> None:
        if not self._output.sums.holds(tile):
            raise SettingsError(
                f"{tile} is too far from the rows at hand: memory holds only some; "
                "compute tiles in the order of run.tiles, or allow more memory"
            )
        with self._stopwatch.timing(Stage.PREDICT):
            self._output.sums.add(tile, *channels)
            self._tiles.done.add(tile.index)
            self._output.finality.done(tile)

    def _export_ready(self, tile: Tile | None = None, due: bool = True) -> tuple[Bounds, ...]:
        """Make the labels that are final now, with this tile, and forget the sums that no others need; save it.

        Returns
        -------
        tuple of Bounds
            Where they lie in the case, and in the box that was chosen.
        """
        with self._stopwatch.timing(Stage.EXPORT):
            for_good = self._output.make_ready() if due else []
            if self.saving is not None:
                self.saving.note(tile, for_good)
        boxes = [self.geometry.case_box(box) for box in self._output.fresh]
        self._output.fresh = []
        if self.settings.box is not None:
            boxes = [part for box in boxes if (part := common(box, self.settings.box)) is not None]
        if boxes and self._first_final_seconds is None:
            self._first_final_seconds = round(time.perf_counter() - self._start, 3)
        return tuple(boxes)

    def _in_box(self, array: Array) -> Array:
        """The array with 0 around the box that was chosen."""
        return array if self.settings.box is None else inside(array, self.settings.box)

    def _remember(self) -> None:
        if not self._engine.given and self.settings.box is None:
            passes = (len(self._tiles.done) - self._taken_up_count) * self._passes_per_tile
            work = Work.counted(self.case, self.model, self.settings, self.geometry, passes)
            keep_times(self.model, self.settings, Times.measured(self._stopwatch.seconds, work))

    @property
    def _passes_per_tile(self) -> int:
        return self._engine.folds * int(2 ** len(self.mirror_axes))
