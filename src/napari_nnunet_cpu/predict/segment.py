"""From a case to its result: the runs of a model, of a cascade's two stages, of an ensemble's members."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy.typing as npt

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.events import Event, Stage, StageStarted
from napari_nnunet_cpu.export import Store, keep_largest, labels_of_store
from napari_nnunet_cpu.models import Model, TrainedModel, members_of, read_postprocessing
from napari_nnunet_cpu.predict.cost import planned_runs
from napari_nnunet_cpu.predict.result import Result, provenance
from napari_nnunet_cpu.predict.run import Run
from napari_nnunet_cpu.prepare import reader_order
from napari_nnunet_cpu.settings import Settings

Stop = Callable[[], bool]
Found = TypeVar("Found")


def _never() -> bool:
    return False


def stages(
    case: Case,
    model: Model,
    settings: Settings | None = None,
    should_stop: Stop = _never,
    first_stage: npt.NDArray[Any] | None = None,
) -> Generator[Event, None, Result | None]:
    """Segment a case step by step; the line that every caller of a whole run goes through.

    Parameters
    ----------
    case : Case
        What to segment.
    model : TrainedModel or sequence of them
        With what. Of several, an ensemble, the probabilities are averaged.
    settings : Settings, optional
        How; nnU-Net's own way by default.
    should_stop : callable, optional
        Asked before every pass through the network.
    first_stage : numpy.ndarray, optional
        For cascades: labels of the first stage, shape of the case (Z, Y, X), which is then not run.

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
    settings = settings or Settings()
    members = members_of(model)
    steps = read_postprocessing(members) if settings.postprocess else None
    planned_runs(case, members, first_stage)  # what does not fit is found before the first network runs
    # An ensemble needs the probabilities; else they cost memory and are made only when asked for.
    wanted = settings.probabilities or len(members) > 1
    line = _Line(
        case,
        replace(settings, probabilities=wanted),
        should_stop,
        first_stage,
        several=len(members) > 1 or members[0].cascade,
        last=len(members) == 1 and not steps,
    )
    total: Store | None = None
    labels: npt.NDArray[Any] | None = None
    for member in members:
        run = yield from line.run(member)
        if run is None:
            return None
        yield line.began(Stage.EXPORT, member)
        if wanted:
            probabilities = run.probabilities()
            if total is None:
                total = probabilities
                line.held = 0 if total.on_disk else total.array.nbytes
            else:
                _add(total, probabilities)
            del probabilities  # or they would still be there while the next member makes its own
        else:
            labels = run.labels()
        line.records.append(run.record())
        del run  # its sums, before those of the next
    names = members[0].labels
    if total is not None:
        for head in total.array:
            head /= len(members)
            total.release()
        labels = labels_of_store(total, names)
    if labels is None:  # there is at least one member, so this is for the type checker alone
        return None
    for values in steps or ():
        if should_stop():
            return None
        labels = keep_largest(labels, values)
    return Result(
        labels,
        dict(names.names),
        provenance(case, settings, line.records, steps),
        case,
        reader_order(case, members[0]),
        total.array if total is not None and settings.probabilities else None,
        line.first_stage_result,
    )


def segment(
    case: Case,
    model: Model,
    settings: Settings | None = None,
    on_event: Callable[[Event], None] | None = None,
    first_stage: npt.NDArray[Any] | None = None,
) -> Result:
    """Segment a case from start to end.

    Parameters
    ----------
    case, model, settings, first_stage
        As `stages` takes them.
    on_event : callable, optional
        Told of every stage and tile.

    Returns
    -------
    Result
        Labels (Z, Y, X), their names, and how they were made.

    Raises
    ------
    CaseError, ModelError, DeviceError, EngineError
        When something does not fit or fails.
    """
    return drained(stages(case, model, settings, first_stage=first_stage), on_event)


def drained(steps: Generator[Event, None, Found | None], on_event: Callable[[Event], None] | None = None) -> Found:
    """What the steps of a run lead to that nobody stops; `on_event` is told of each."""
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            found: Found = end.value
            return found
        if on_event is not None:
            on_event(event)


def _add(total: Store, more: Store) -> None:
    """Add stored arrays, a head at a time."""
    for head, other in zip(total.array, more.array, strict=True):
        head += other
        total.release()
        more.release()


@dataclass
class _Line:
    """What the runs of one segmentation share; `last` says that what a member's run calls final is so."""

    case: Case
    settings: Settings
    should_stop: Stop
    first_stage: npt.NDArray[Any] | None
    several: bool
    last: bool
    held: int = 0  # memory of the probabilities of the members before
    records: list[dict[str, Any]] = field(default_factory=list)
    first_stage_result: Result | None = None

    def began(self, stage: Stage, model: TrainedModel) -> StageStarted:
        """The event, which says what it is about where there is more than one network."""
        return StageStarted(stage, model.configuration_name if self.several else "")

    def run(self, model: TrainedModel) -> Generator[Event, None, Run | None]:
        """Compute the tiles of one member, after its first stage; None when stopped."""
        labels = self.first_stage
        if model.first_stage is not None and labels is None:
            own = replace(self.settings, probabilities=False)
            first = yield from self._computed(model.first_stage, None, own, last=False)
            if first is None:
                return None
            yield self.began(Stage.EXPORT, model.first_stage)
            self.first_stage_result = first.result()
            self.records.append(first.record())
            labels = self.first_stage_result.labels
            del first  # its sums, before those of the second stage
        return (yield from self._computed(model, labels if model.cascade else None, self.settings, self.last))

    def _computed(
        self, model: TrainedModel, labels: npt.NDArray[Any] | None, settings: Settings, last: bool
    ) -> Generator[Event, None, Run | None]:
        yield self.began(Stage.PREPARE, model)
        if settings.memory is not None:
            settings = replace(settings, memory=max(settings.memory - self.held, 1))
        run = Run(self.case, model, settings, first_stage=labels)
        yield self.began(Stage.LOAD, model)
        _ = run.engine
        yield self.began(Stage.PREDICT, model)
        for event in run.compute(should_stop=self.should_stop):
            part = model.configuration_name if self.several else ""
            yield replace(event, part=part, final=event.final if last else None)
        return run if run.complete else None
