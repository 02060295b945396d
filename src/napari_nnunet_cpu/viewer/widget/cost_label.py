"""Show the cost of a run for each preset, and whether a saved run can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
from magicgui.widgets import Label

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.events import duration, size
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict import Estimate, SavedRun, estimate
from napari_nnunet_cpu.predict.resume.saved_runs import saved_runs
from napari_nnunet_cpu.resources import runs_folder
from napari_nnunet_cpu.settings import PRESETS, Settings

# Runs with a longer estimate are saved while they compute.
_SAVED_FROM_SECONDS = 60


class CostLabel(Label):
    """Shows tiles, passes, seconds and memory for each preset."""

    def __init__(self) -> None:
        super().__init__(value="")
        self.native.setWordWrap(True)

    def show_costs(
        self,
        outline: Case,
        models: tuple[TrainedModel, ...],
        settings: Callable[[str], Settings],
        box: Box | None,
        first_stage: npt.NDArray[Any] | None,
        times: int,
    ) -> None:
        """Show the cost for an image with `times` time points; `outline` has the shape and spacing of one of them.

        `settings` gives those of a preset by name, `box` is the part in file order, and `first_stage` is as in
        `estimate`. Raises the errors of `estimate`.
        """
        each = f", for each of {times} time points" if times > 1 else ""
        lines, most = [], 0
        for name in PRESETS:
            cost = estimate(outline, models, replace(settings(name), box=box), first_stage, any_order=True)
            lines.append(f"{name}: {_tiles(cost)}{each}")
            most = max(most, cost.bytes)
        lines.append(f"memory: up to {size(most)}")
        saved = saved_run_of(outline, models)
        if saved is not None:
            lines.append(
                f"a run of this image was interrupted after {saved.tiles_done} of {saved.tiles} tiles and is saved: "
                "Run resumes it if the settings are the same"
            )
        self.value = "<br>".join(lines)


def saved_run_of(outline: Case, models: tuple[TrainedModel, ...]) -> SavedRun | None:
    """A saved run that seems to belong to this image and one of these models; the run itself checks it exactly."""
    weights = {model.weights_sha256 for model in models}
    for run in saved_runs(runs_folder()):
        if (run.image, tuple(run.shape)) == (outline.name, outline.shape) and run.weights_sha256 in weights:
            return run
    return None


def folder_for(cost: Estimate, outline: Case, models: tuple[TrainedModel, ...]) -> Path | None:
    """The folder to save a run in; None for a short run, unless a saved run may fit it."""
    long = cost.seconds is not None and cost.seconds > _SAVED_FROM_SECONDS
    return runs_folder() if long or saved_run_of(outline, models) is not None else None


def _tiles(cost: Estimate) -> str:
    time = "" if cost.seconds is None else f", about {duration(cost.seconds)}"
    return f"up to {cost.tiles} tiles, {cost.passes} passes{time}"
