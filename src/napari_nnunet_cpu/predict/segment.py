"""Segment a case from start to end in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy.typing as npt

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.events import Event
from napari_nnunet_cpu.models import Model
from napari_nnunet_cpu.predict.result import Result
from napari_nnunet_cpu.predict.segmentation import Segmentation
from napari_nnunet_cpu.settings import Settings

Step = TypeVar("Step", covariant=True)
Found = TypeVar("Found", covariant=True)


class Steps(Protocol[Step, Found]):
    """A segmentation, which sets its result after its last step."""

    @property
    def result(self) -> Found | None:
        """The result; None before the end."""

    def steps(self) -> Iterable[Step]:
        """Compute step by step."""


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
        As `Segmentation` takes them. Run files stay in the folder.
    on_event : callable, optional
        Called with every event of the run.

    Returns
    -------
    Result
        Labels (Z, Y, X), their names and their provenance.

    Raises
    ------
    CaseError, ModelError, DeviceError, EngineError
        When something does not fit or fails.
    """
    with closing(Segmentation(case, model, settings, first_stage, folder=folder)) as segmentation:
        return run_to_end(segmentation, on_event)


def run_to_end(segmentation: Steps[Step, Found], on_event: Callable[[Step], None] | None = None) -> Found:
    """Compute the steps of a segmentation, call `on_event` with each, and return the result.

    Raises the errors of `Segmentation.steps`, and `SettingsError` if its control stopped it.
    """
    for event in segmentation.steps():
        if on_event is not None:
            on_event(event)
    if segmentation.result is None:
        raise SettingsError("the segmentation was stopped; call run_to_end again to resume it")
    return segmentation.result
