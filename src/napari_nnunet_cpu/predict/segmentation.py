"""A segmentation: runs a model, the two stages of a cascade, or the members of an ensemble, one after the other."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import inside
from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.events import Event, Stage, StageStarted
from napari_nnunet_cpu.export import keep_largest, labels_of_store, uncertainty_of_probabilities
from napari_nnunet_cpu.models import Model, members_of, read_postprocessing
from napari_nnunet_cpu.predict.control import RunControl
from napari_nnunet_cpu.predict.mean import Mean
from napari_nnunet_cpu.predict.planning import Estimate, PlannedRun, estimate, planned_runs
from napari_nnunet_cpu.predict.result import Result, provenance
from napari_nnunet_cpu.predict.resume import RunFiles
from napari_nnunet_cpu.predict.run import Run
from napari_nnunet_cpu.predict.uncertainty import check_members
from napari_nnunet_cpu.prepare import nonzero_box, reader_order
from napari_nnunet_cpu.settings import Settings

Uncertainty = npt.NDArray[np.float32]


class Segmentation:
    """Segments a case with a model, a cascade or an ensemble; it can be stopped and resumed.

    Parameters
    ----------
    case : Case
        The case to segment.
    model : TrainedModel or sequence of them
        The model, or the members of an ensemble, whose probabilities are averaged.
    settings : Settings, optional
        By default those of the preset exact.
    first_stage : numpy.ndarray, optional
        For cascades: labels of the first stage, shape of the case (Z, Y, X), instead of running it.
    any_order : bool
        Whether tiles follow the focus, and others may be chosen later, see `Run`.
    folder : Path, optional
        Folder of the run files, see `Run`.
    control : RunControl, optional
        Steers the runs; a new one by default.
    files : RunFiles, optional
        Collects the run files; a new collection by default.

    Attributes
    ----------
    control : RunControl
        Sets the focus, chooses tiles and stops, at any time and from any thread.
    files : RunFiles
        The run files so far; its `remove` deletes them.
    run : Run or None
        The run that makes the labels of the result; None before it begins, and for an ensemble.
    result : Result or None
        The result, after the last step; None if the segmentation was stopped.

    Raises
    ------
    CaseError, ModelError
        When the case does not fit the models, or these are no ensemble.
    SettingsError
        When a tile has a single pass, so that there is no disagreement.
    """

    def __init__(
        self,
        case: Case,
        model: Model,
        settings: Settings | None = None,
        first_stage: npt.NDArray[Any] | None = None,
        *,
        any_order: bool = False,
        folder: Path | None = None,
        control: RunControl | None = None,
        files: RunFiles | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.members = members_of(model)
        self.case = case.seen_by(self.members[0].plans.image_reader_writer)
        self.control = control or RunControl()
        self.files = files or RunFiles()
        self.run: Run | None = None
        self.result: Result | None = None
        check_members(self.settings, self.members)
        self._any_order = any_order
        self._folder = folder
        self._postprocessing = read_postprocessing(self.members) if self.settings.postprocess else None
        self._given = first_stage
        self._planned()  # raises before the first network runs if the case does not fit
        self._finished = 0  # planned runs whose sums are no longer needed
        self._active: Run | None = None  # the run of the next one
        self._first_stage: Result | None = None  # of the last cascade
        self._records: list[dict[str, Any]] = []  # of finished runs
        self._mean = Mean(len(self.members))

    @cached_property
    def estimate(self) -> Estimate:
        """The cost with the settings of the constructor, found on first use, which must come before the first step."""
        box = nonzero_box(self.case)
        return estimate(self.case, self.members, self.settings, self._given, self._any_order, box)

    def steps(self) -> Generator[Event, None, None]:
        """Compute the missing tiles and set `result`.

        After a stop, or if the control selects other tiles, another call resumes; computed tiles stay.

        Yields
        ------
        Event
            When a stage begins, and after every tile.

        Raises
        ------
        CaseError, ModelError, DeviceError, EngineError
            When something does not fit or fails.
        SettingsError
            When the selected tiles can't be added any more, because an ensemble has begun or sums are forgotten.
        """
        self.result = None
        self._select()
        for planned in self._planned()[self._finished :]:
            if self._active is None:
                yield self._began(Stage.PREPARE, planned)
                self._active = self._begin(planned)
            run = self._active
            if not self._ensemble and not planned.first_stage:
                self.run = run
            yield self._began(Stage.LOAD, planned)
            _ = run.engine
            yield self._began(Stage.PREDICT, planned)
            final = run is self.run and not self._postprocessing
            with closing(run.compute(control=self.control)) as events:
                for event in events:
                    yield replace(event, part=self._part(planned), final=event.final if final else ())
            if not run.complete:
                return
            yield self._began(Stage.EXPORT, planned)
            if run is not self.run:
                self._take(run, planned)
            del run  # so that its sums are freed before the next run begins
        labels, uncertainty = self._mean_labels() if self.run is None else _labels_of(self.run)
        for values in self._postprocessing or ():
            if self.control.should_stop():
                return
            labels = keep_largest(labels, values)
        self.result = self._result(labels, uncertainty)

    def partial(self) -> Result | None:
        """The final labels so far, elsewhere background; None for an ensemble, and before the run begins.

        Call it only while no other thread computes the steps.
        """
        if self.run is None:
            return None
        return self._result(
            self._in_box(self.run.final_labels),
            None if self.settings.uncertainty is None else self._in_box(self.run.final_uncertainty),
        )

    def close(self) -> None:
        """Save the active run, and unlock the run files for other processes."""
        if self._active is not None and self._active.saving is not None:
            self._active.saving.save()
        self.files.close()

    def _planned(self) -> list[PlannedRun]:
        return planned_runs(self.case, self.members, self.settings, self._given)

    def _select(self) -> None:
        """Apply the selection of tiles in the control."""
        wanted = self.control.selection
        if wanted is None or (wanted.box, wanted.cover) == (self.settings.box, self.settings.cover):
            return
        if self._ensemble and (self._active is not None or self._finished):
            raise SettingsError(
                "other tiles can't be chosen for an ensemble that has begun, because the sums of its members are "
                "freed one by one; start it again"
            )
        if self.run is not None:
            self.run.choose(wanted.box, wanted.cover)
        self.settings = replace(self.settings, box=wanted.box, cover=wanted.cover)

    def _begin(self, planned: PlannedRun) -> Run:
        settings = planned.settings
        if settings.memory is not None:
            settings = replace(settings, memory=max(settings.memory - self._mean.bytes, 1))
        labels = None
        if planned.model.cascade:
            labels = self._given if self._first_stage is None else self._first_stage.labels
        run = Run(
            self.case, planned.model, settings, first_stage=labels, any_order=self._any_order, folder=self._folder
        )
        if run.saving is not None:
            self.files.add(run.saving.file)
        return run

    def _take(self, run: Run, planned: PlannedRun) -> None:
        """Take the labels or probabilities of a finished run, for the runs after it."""
        if planned.first_stage:
            self._first_stage = run.result()
        else:
            self._mean.add(run.probabilities())
        self._records.append(run.record())
        self._active = None
        self._finished += 1

    def _mean_labels(self) -> tuple[npt.NDArray[Any], Uncertainty | None]:
        """Labels (Z, Y, X) of an ensemble, and their uncertainty if the settings ask for it."""
        mean, labels = self._mean.value(), self.members[0].labels
        kind = self.settings.uncertainty
        uncertainty = None if kind is None else self._in_box(uncertainty_of_probabilities(mean, labels, kind))
        return self._in_box(labels_of_store(mean, labels)), uncertainty

    def _in_box(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A copy of an array of the case, with 0 around the box of the settings."""
        return array.copy() if self.settings.box is None else inside(array, self.settings.box)

    @property
    def _ensemble(self) -> bool:
        return len(self.members) > 1

    def _began(self, stage: Stage, planned: PlannedRun) -> StageStarted:
        return StageStarted(stage, self._part(planned))

    def _part(self, planned: PlannedRun) -> str:
        """The name of the configuration, if the segmentation has several networks."""
        return planned.model.configuration_name if self._ensemble or self.members[0].cascade else ""

    def _result(self, labels: npt.NDArray[Any], uncertainty: Uncertainty | None) -> Result:
        records = [*self._records, *([] if self._active is None else [self._active.record()])]
        probabilities = None
        if self.settings.probabilities:
            store = self._mean.store if self.run is None else self.run.probabilities()
            probabilities = None if store is None else store.array
        return Result(
            labels,
            dict(self.members[0].labels.names),
            provenance(self.case, self.settings, records, self._postprocessing),
            self.case,
            reader_order(self.case, self.members[0]),
            probabilities,
            self._first_stage,
            uncertainty,
        )


def _labels_of(run: Run) -> tuple[npt.NDArray[Any], Uncertainty | None]:
    """Labels (Z, Y, X) of a complete run, and their uncertainty if the settings ask for it."""
    return run.labels(), None if run.settings.uncertainty is None else run.uncertainty()
