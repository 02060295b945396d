"""How much memory a run takes, and how it keeps to what it may take."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import most_streams
from napari_nnunet_cpu.errors import MemoryBudgetError
from napari_nnunet_cpu.events import size
from napari_nnunet_cpu.export import LabelExport
from napari_nnunet_cpu.export.linear import SLAB_LOGITS, LinearExport
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.passes.accumulated_channels import extra_channels
from napari_nnunet_cpu.predict.planning.engine_memory import engine_bytes
from napari_nnunet_cpu.predict.tiles.finality import window_depth
from napari_nnunet_cpu.predict.tiles.grid import Grid
from napari_nnunet_cpu.predict.uncertainty import uncertainty_export
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.resources import free_memory_bytes
from napari_nnunet_cpu.settings import Settings

Kind = Literal["dense", "rows", "disk"]

# Of the free memory, where no budget is given: other programs live on, and files are cached.
_SHARE_OF_FREE = 0.8


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a run holds at a time.

    Attributes
    ----------
    kind : {"dense", "rows", "disk"}
        Sums of the whole image in memory; of as many rows as tiles overlap, so that tiles must come row by row;
        or of the whole image in a file.
    depth : int
        Rows of the sums.
    probabilities_on_disk : bool
        Where the probabilities are, if any are kept.
    streams : int
        Passes through the network at a time.
    bytes : int
        Memory at the peak of the run, on top of what the process held before, about.
    """

    kind: Kind
    depth: int
    probabilities_on_disk: bool
    streams: int
    bytes: int


def budget_bytes(settings: Settings) -> int:
    """Memory that a run may take: as the settings say, or most of what is free now."""
    return settings.memory or int(_SHARE_OF_FREE * free_memory_bytes())


def plan_memory(
    case: Case,
    model: TrainedModel,
    settings: Settings,
    geometry: Geometry,
    grid: Grid,
    export: LabelExport,
    budget: int,
    any_order: bool,
    channels: int,
    tiles: int,
) -> MemoryPlan:
    """The first plan that fits the budget in bytes. If none does, the smallest.

    Where tiles come row by row only rows are held, which costs nothing, or all of them on disk; where they come in any
    order all must be held. So many channels of so many tiles are summed. Sums in memory are worth more than passes at a
    time.
    """
    starts = (grid.covering if settings.cover else grid.starts)[0]
    whole, window = grid.padded[0], window_depth(grid, export, geometry.cropped_shape[0], starts)
    plane = 4 * prod(grid.padded[1:])
    row = plane * (channels + extra_channels(settings) + 1)
    # Of sums on disk those are in memory that are read: some rows of all at a time, or of one head and its mean.
    read = row * min(window, SLAB_LOGITS * 4 // row + 2) if isinstance(export, LinearExport) else 2 * plane * window
    sums: list[tuple[Kind, int, int]] = [("dense", whole, row * whole), ("disk", whole, read)]
    if window < whole and not any_order:
        sums[0] = ("rows", window, row * window)
    # Probabilities go to disk first, which are written once; sums are written again and again.
    kept = [(False, 4 * model.labels.heads * prod(case.shape)), (True, 0)] if settings.probabilities else [(False, 0)]
    preparing, predicting = _peaks(case, model, geometry)
    uncertainty = uncertainty_export(model, settings, geometry)
    if uncertainty is None:
        predicting += export.working_bytes
    else:  # which is measured after the labels, kept, and copied for the result
        predicting += max(export.working_bytes, uncertainty.working_bytes) + 2 * 4 * prod(case.shape)
    passes = {
        streams: streams * _tile_bytes(model, settings, channels) + engine_bytes(model, settings, channels, streams)
        for streams in range(most_streams(settings, tiles), 0, -1)
    }
    plans = [
        MemoryPlan(kind, depth, on_disk, streams, max(preparing, predicting + network + held + probabilities))
        for on_disk, probabilities in kept
        for kind, depth, held in sums
        for streams, network in passes.items()
        if kind != "disk" or (on_disk, probabilities) == kept[-1]
    ]
    return next((plan for plan in plans if plan.bytes <= budget), min(plans, key=lambda plan: plan.bytes))


def check_budget(plan: MemoryPlan, budget: int, case: Case, settings: Settings) -> None:
    """Refuse a run whose plan, the smallest there is, does not fit.

    Raises
    ------
    MemoryBudgetError
        With what is needed.
    """
    if plan.bytes > budget:
        allowed = "are free to be taken" if settings.memory is None else "are allowed"
        raise MemoryBudgetError(
            f"{case.name} needs about {size(plan.bytes)} of memory with this model, {size(budget)} {allowed}: "
            "close other programs, allow more memory, or cut the image"
        )


def _peaks(case: Case, model: TrainedModel, geometry: Geometry) -> tuple[int, int]:
    """Memory while the image is prepared, and while tiles are computed but for passes, sums and probabilities."""
    image = 4 * model.input_channels * prod(geometry.shape)
    # A channel as float32, and on its way to another grid.
    preparing = image + 4 * prod(case.shape) + 2 * 4 * max(prod(geometry.shape), prod(geometry.cropped_shape))
    return preparing, image + 2 * np.dtype(model.labels.dtype).itemsize * prod(case.shape)


def _tile_bytes(model: TrainedModel, settings: Settings, channels: int) -> int:
    """Memory of a tile at hand."""
    patch = 4 * prod(model.configuration.patch_size)
    # The patch and its mirror image, what the engine gives and, of several passes, their mean.
    several = len(model.folds) > 1 or (settings.mirror and model.mirror_axes)
    arrays = 2 * model.input_channels + (2 if several else 1) * channels
    if extra_channels(settings):  # the probabilities of a pass, their sum or mean, and entropies
        arrays += 2 * model.labels.heads + 4
    return patch * arrays
