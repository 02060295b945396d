"""The cost of a run with each preset, and a saved run that may fit it: computed without Qt, in any thread."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from napari_nnunet_cpu.events import duration, size
from napari_nnunet_cpu.predict import Estimate, SavedRun, check_fit, estimate, saved_runs
from napari_nnunet_cpu.resources import runs_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

    from napari_nnunet_cpu.boxes import Box
    from napari_nnunet_cpu.cases import Case, Spacing
    from napari_nnunet_cpu.models import TrainedModel
    from napari_nnunet_cpu.settings import Settings
    from napari_nnunet_cpu.viewer.image import LayerImage

# Runs with a longer estimate are saved while they compute.
_SAVED_FROM_SECONDS = 60


@dataclass(frozen=True, eq=False)
class CostRequest:
    """A snapshot of the inputs of a run, with the settings to compute the costs for."""

    image: LayerImage
    spacing_mm: Spacing | None  # (Z, Y, X), if the user states it
    models: tuple[TrainedModel, ...]  # or the members of an ensemble
    settings: tuple[Settings, ...]  # each with the box of the chosen part
    first_stage: npt.NDArray[Any] | None = None  # as in `estimate`; only its shape and dtype count
    times: int = 1  # number of time points

    @property
    def outline(self) -> Case:
        """Shape and spacing of one time point."""
        return self.image.outline(self.spacing_mm)

    def check(self) -> None:
        """Raise the errors of `costs_of`, without counting anything."""
        for settings in self.settings:
            check_fit(self.outline, self.models, settings, self.first_stage)


@dataclass(frozen=True)
class Costs:
    """The costs of each preset."""

    estimates: dict[str, Estimate]  # by preset, for each time point
    saved: SavedRun | None  # seems to belong to the image and one of the models
    times: int  # number of time points
    cropped: bool  # the tiles are those of the cropped image, not of the whole image

    @property
    def text(self) -> str:
        """The costs as lines for the user."""
        each = f", for each of {self.times} time points" if self.times > 1 else ""
        lines = [f"{preset}: {self._tiles(cost)}{each}" for preset, cost in self.estimates.items()]
        lines.append(f"memory: up to {size(max(cost.bytes for cost in self.estimates.values()))}")
        if self.saved is not None:
            lines.append(
                f"a run of this image was interrupted after {self.saved.tiles_done} of {self.saved.tiles} tiles and is "
                "saved: Run resumes it if the settings are the same"
            )
        return "<br>".join(lines)

    def _tiles(self, cost: Estimate) -> str:
        time = "" if cost.seconds is None else f", about {duration(cost.seconds)}"
        return f"{'' if self.cropped else 'up to '}{cost.tiles} tiles, {cost.passes} passes{time}"


class NonzeroBoxes:
    """Finds the nonzero box of an image, and remembers it for the next request with the same arrays."""

    def __init__(self) -> None:
        self._arrays: list[ref[Any]] = []
        self._time = 0
        self._box: Box | None = None

    def of(self, image: LayerImage) -> Box | None:
        """The box of the first time point; None for lazy arrays, because reading them may take long.

        For one thread at a time.
        """
        if not all(isinstance(array, np.ndarray) for array in image.arrays):
            return None
        time, known = image.times[0], [array() for array in self._arrays]
        same = len(known) == len(image.arrays) and all(map(operator.is_, known, image.arrays))
        if not same or time != self._time:
            self._box = image.nonzero_box(time)
            self._arrays, self._time = [ref(array) for array in image.arrays], time
        return self._box


def costs_of(request: CostRequest, saved: Iterable[SavedRun], nonzero: Box | None = None) -> Costs:
    """Compute the costs, and find the saved run among `saved`. Raises the errors of `estimate`.

    `nonzero` is the box of the nonzero voxels, in file order; without it, the tiles of the whole image are counted.
    """
    outline = request.outline
    estimates = {
        settings.preset: estimate(
            outline, request.models, settings, request.first_stage, any_order=True, nonzero=nonzero
        )
        for settings in request.settings
    }
    return Costs(estimates, _fitting(outline, request.models, saved), request.times, nonzero is not None)


def folder_for(request: CostRequest) -> Path | None:
    """The folder to save a run in; None for a short run, unless a saved run may fit it."""
    costs = costs_of(request, saved_runs(runs_folder()))
    long = any(cost.seconds is not None and cost.seconds > _SAVED_FROM_SECONDS for cost in costs.estimates.values())
    return runs_folder() if long or costs.saved is not None else None


def _fitting(outline: Case, models: tuple[TrainedModel, ...], saved: Iterable[SavedRun]) -> SavedRun | None:
    """A saved run that seems to belong to this image and one of these models; the run itself checks it exactly."""
    weights = {model.weights_sha256 for model in models}
    for run in saved:
        if (run.image, tuple(run.shape)) == (outline.name, outline.shape) and run.weights_sha256 in weights:
            return run
    return None
