"""From a case to its result in one call."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.events import Event
from napari_nnunet_cpu.models import Model
from napari_nnunet_cpu.predict.result import Result
from napari_nnunet_cpu.predict.segmentation import Segmentation
from napari_nnunet_cpu.settings import Settings

Found = TypeVar("Found")
Step = TypeVar("Step")


def segment(
    case: Case,
    model: Model,
    settings: Settings | None = None,
    on_event: Callable[[Event], None] | None = None,
    first_stage: npt.NDArray[Any] | None = None,
    folder: Path | None = None,
) -> Result:
    """Segment a case from start to end.

    Parameters
    ----------
    case, model, settings, first_stage, folder
        As `Segmentation` takes them. What is saved in the folder stays there.
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
    with closing(Segmentation(case, model, settings, first_stage, folder=folder)) as segmentation:
        return run_to_end(segmentation.steps(), on_event)


def run_to_end(steps: Generator[Step, None, Found | None], on_event: Callable[[Step], None] | None = None) -> Found:
    """What the steps of a run lead to that nobody stops; `on_event` is told of each."""
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            found: Found = end.value
            return found
        if on_event is not None:
            on_event(event)
