"""From a case to its result: the runs of a model, of a cascade's two stages, of an ensemble's members."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box, inside
from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.events import Event, Stage, StageStarted
from napari_nnunet_cpu.export import keep_largest, labels_of_store, uncertainty_of_probabilities
from napari_nnunet_cpu.models import Model, TrainedModel, members_of, read_postprocessing
from napari_nnunet_cpu.predict.mean import Mean
from napari_nnunet_cpu.predict.passes.stop import Stop, never
from napari_nnunet_cpu.predict.planning.estimate import estimate, planned_runs
from napari_nnunet_cpu.predict.planning.plan import Estimate
from napari_nnunet_cpu.predict.result import Result, provenance
from napari_nnunet_cpu.predict.resume.run_file import RunFile
from napari_nnunet_cpu.predict.run import Run
from napari_nnunet_cpu.predict.tiles.order import Focus
from napari_nnunet_cpu.predict.uncertainty import check_members
from napari_nnunet_cpu.prepare import reader_order
from napari_nnunet_cpu.settings import Settings


class Segmentation:
    """Segments a case with a model; can be stopped, asked what is there, and gone on with.

    Parameters
    ----------
    case : Case
        What to segment.
    model : TrainedModel or sequence of them
        With what. Of several, an ensemble, the probabilities are averaged.
    settings : Settings, optional
        How; nnU-Net's own way by default.
    first_stage : numpy.ndarray, optional
        For cascades: labels of the first stage, shape of the case (Z, Y, X), which is then not run.
    any_order : bool
        Whether a focus is followed and other tiles may be chosen later, see `Run`.
    folder : Path, optional
        Where runs are saved while they go on, see `Run`. They are removed from there by `forget_saved`.

    Attributes
    ----------
    focus : Focus or None
        What is looked at; it may be set at any time, by any thread.
    files : list of RunFile
        What the runs are saved in, those that are finished, too.
    run : Run or None
        The one at hand whose labels are those of the result; None before it begins.

    Raises
    ------
    CaseError, ModelError
        When the case does not fit the models, or these are no ensemble.
    SettingsError
        When there is no disagreement to measure.
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
    ) -> None:
        self.settings = settings or Settings()
        self.members = members_of(model)
        self.case = case = case.seen_by(self.members[0].plans.image_reader_writer)
        check_members(self.settings, self.members)
        self.run: Run | None = None
        self._focus: Focus | None = None
        self._any_order = any_order
        self._folder = folder
        self._postprocessing = read_postprocessing(self.members) if self.settings.postprocess else None
        planned_runs(case, self.members, first_stage)  # what does not fit is found before the first network runs
        self._first_stage = first_stage
        self._first_stages: dict[int, Result] = {}  # by the model of the second stage: those that are done
        self._active: dict[int, Run] = {}  # by their model: what is begun and not finished with
        self._records: list[dict[str, Any]] = []  # of those that are
        self.files: list[RunFile] = []
        self._mean = Mean(len(self.members))

    @property
    def estimate(self) -> Estimate:
        """What it costs, the image taken whole, as if nothing were cropped."""
        return estimate(self.case, self.members, self.settings, self._first_stage, self._any_order)

    @property
    def focus(self) -> Focus | None:
        """What is looked at."""
        return self._focus

    @focus.setter
    def focus(self, focus: Focus | None) -> None:
        self._focus = focus
        if self.run is not None:
            self.run.focus = focus

    @property
    def saving_problem(self) -> str | None:
        """Why a run is not saved any more, for people; None where all is well or nothing was to be saved."""
        return next((file.problem for file in self.files if file.problem is not None), None)

    def choose(self, box: Box | None = None, cover: bool = False) -> None:
        """Choose the tiles anew, see `Run.choose`: the next `steps` computes what is missing.

        Raises
        ------
        SettingsError
            When the tiles can't be chosen, or an ensemble has begun: its members are forgotten one by one.
        """
        if self._ensemble and (self._active or self._mean.added):
            raise SettingsError("the runs of an ensemble are made one after the other and forgotten: start it again")
        if self.run is not None:
            self.run.choose(box, cover)
        self.settings = replace(self.settings, box=box, cover=cover)

    def steps(self, should_stop: Stop = never) -> Generator[Event, None, Result | None]:
        """Compute what is not computed yet, step by step; the line that every caller of a whole run goes through.

        Parameters
        ----------
        should_stop : callable, optional
            Asked before every pass through the network. What is done stays, and another call goes on.

        Yields
        ------
        Event
            Every stage that begins and every tile that is done.

        Returns
        -------
        Result or None
            Labels (Z, Y, X), their names, and how they were made; None when it was stopped.

        Raises
        ------
        CaseError, ModelError, DeviceError, EngineError
            When something does not fit or fails.
        """
        labels: npt.NDArray[Any] | None = None
        uncertainty: npt.NDArray[np.float32] | None = None
        for member in self.members[self._mean.added :]:
            run = yield from self._member(member, should_stop)
            if run is None:
                return None
            yield self._began(Stage.EXPORT, member)
            if self._ensemble:
                self._mean.add(run.probabilities())
                self._finish(run)
            else:
                labels = run.labels()
                uncertainty = None if self.settings.uncertainty is None else run.uncertainty()
            del run  # its sums, before those of the next
        if self._mean.store is not None:
            labels = labels_of_store(self._mean.store, self.members[0].labels)
            if self.settings.uncertainty is not None:
                uncertainty = uncertainty_of_probabilities(
                    self._mean.store, self.members[0].labels, self.settings.uncertainty
                )
            labels = self._in_box(labels)
            uncertainty = None if uncertainty is None else self._in_box(uncertainty)
        if labels is None:  # there is at least one member, so this is for the type checker alone
            return None
        for values in self._postprocessing or ():
            if should_stop():
                return None
            labels = keep_largest(labels, values)
        return self._result(labels, uncertainty)

    def partial(self) -> Result | None:
        """What is final by now, the rest background; None before there is anything, and for an ensemble.

        Not to be asked for while `steps` goes on in another thread.
        """
        if self.run is None or self._ensemble:
            return None
        return self._result(
            self._in_box(self.run.final_labels),
            None if self.settings.uncertainty is None else self._in_box(self.run.final_uncertainty),
        )

    def close(self) -> None:
        """Let others have the folder; what is saved stays there."""
        for run in self._active.values():
            if run.saving is not None:
                run.saving.save()
        for file in self.files:
            file.close()

    def forget_saved(self) -> None:
        """Remove what is saved in the folder: the labels are where they should be."""
        for file in self.files:
            file.remove()

    def _in_box(self, whole: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A copy of an array of the case, with 0 around the box that was chosen."""
        return whole.copy() if self.settings.box is None else inside(whole, self.settings.box)

    @property
    def _ensemble(self) -> bool:
        return len(self.members) > 1

    def _began(self, stage: Stage, model: TrainedModel) -> StageStarted:
        """The event, which says what it is about where there is more than one network."""
        return StageStarted(stage, self._part(model))

    def _part(self, model: TrainedModel) -> str:
        return model.configuration_name if self._ensemble or self.members[0].cascade else ""

    def _member(self, model: TrainedModel, should_stop: Stop) -> Generator[Event, None, Run | None]:
        """Compute the tiles of one member, after its first stage; None when stopped."""
        labels = self._first_stage
        # An ensemble needs the probabilities; else they cost memory and are made only when asked for.
        settings = replace(
            self.settings,
            probabilities=self.settings.probabilities or self._ensemble,
            uncertainty=None if self._ensemble else self.settings.uncertainty,  # it is made of the mean
        )
        if model.first_stage is not None and labels is None and id(model) not in self._active:
            if id(model) not in self._first_stages:
                own = replace(settings, probabilities=False, box=None, uncertainty=None)
                first = yield from self._computed(model.first_stage, None, own, should_stop, last=False)
                if first is None:
                    return None
                yield self._began(Stage.EXPORT, model.first_stage)
                self._first_stages[id(model)] = first.result()
                self._finish(first)
                del first  # its sums, before those of the second stage
            labels = self._first_stages[id(model)].labels
        return (yield from self._computed(model, labels if model.cascade else None, settings, should_stop, last=True))

    def _computed(
        self,
        model: TrainedModel,
        labels: npt.NDArray[Any] | None,
        settings: Settings,
        should_stop: Stop,
        last: bool,
    ) -> Generator[Event, None, Run | None]:
        """Compute the tiles of one network; `last` says that its labels are those of the member."""
        run = self._active.get(id(model))
        if run is None:
            yield self._began(Stage.PREPARE, model)
            if settings.memory is not None:
                settings = replace(settings, memory=max(settings.memory - self._mean.bytes, 1))
            run = Run(self.case, model, settings, first_stage=labels, any_order=self._any_order, folder=self._folder)
            self._active[id(model)] = run
            if run.saving is not None:
                self.files.append(run.saving.file)
        if last and not self._ensemble:
            self.run = run
        run.focus = self._focus
        yield self._began(Stage.LOAD, model)
        _ = run.engine
        yield self._began(Stage.PREDICT, model)
        final = last and not self._ensemble and not self._postprocessing
        for event in run.compute(should_stop=should_stop):
            yield replace(event, part=self._part(model), final=event.final if final else ())
        return run if run.complete else None

    def _finish(self, run: Run) -> None:
        """Keep the record of a run and let the rest of it go."""
        self._records.append(run.record())
        del self._active[id(run.model)]

    def _result(self, labels: npt.NDArray[Any], uncertainty: npt.NDArray[np.float32] | None) -> Result:
        records = [*self._records, *(run.record() for run in self._active.values())]
        store = self._mean.store
        if store is None and self.settings.probabilities and self.run is not None:
            store = self.run.probabilities()
        return Result(
            labels,
            dict(self.members[0].labels.names),
            provenance(self.case, self.settings, records, self._postprocessing),
            self.case,
            reader_order(self.case, self.members[0]),
            store.array if store is not None and self.settings.probabilities else None,
            next(reversed(self._first_stages.values()), None),
            uncertainty,
        )
