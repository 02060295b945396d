"""Plan the memory of a run, so that it stays in its budget."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import most_streams
from napari_nnunet_cpu.errors import MemoryBudgetError
from napari_nnunet_cpu.events import size
from napari_nnunet_cpu.export import SLAB_LOGITS, LabelExport, LinearExport
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.passes import extra_channels
from napari_nnunet_cpu.predict.planning.engine_memory import engine_bytes
from napari_nnunet_cpu.predict.tiles import Grid, window_depth
from napari_nnunet_cpu.predict.uncertainty import uncertainty_export
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.resources import free_memory_bytes
from napari_nnunet_cpu.settings import Settings

Kind = Literal["dense", "rows", "disk"]

# The default budget as a share of the free memory, because other programs and the file cache need memory too.
_SHARE_OF_FREE = 0.8


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The way a run stays in its budget.

    It holds the sums of all tiles in memory ("dense"), of all tiles in a file ("disk"), or of a few rows, so that tiles
    must come row by row ("rows").
    """

    kind: Kind
    depth: int  # rows of sums held at a time
    probabilities_on_disk: bool  # where the settings ask for probabilities
    streams: int  # passes at the same time
    bytes: int  # estimated peak of the run, on top of the memory that the process holds already


def budget_bytes(settings: Settings) -> int:
    """The budget of a run: the settings' memory, or most of the memory that is free now."""
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
    """The first plan that fits the budget in bytes, or the smallest plan if none fits.

    If tiles come row by row, the run holds a few rows, at no cost, or all rows on disk; `any_order` needs all rows. The
    plans are ordered so that sums move to disk only after the number of streams was reduced. `channels` is the number
    of accumulated channels, and `tiles` the number of chosen tiles.
    """
    starts = (grid.covering if settings.cover else grid.starts)[0]
    whole, window = grid.padded[0], window_depth(grid, export, geometry.cropped_shape[0], starts)
    plane = 4 * prod(grid.padded[1:])
    row = plane * (channels + extra_channels(settings) + 1)
    # Sums on disk need memory while they are read: a few rows of all channels, or one head and its weighted mean.
    read = row * min(window, SLAB_LOGITS * 4 // row + 2) if isinstance(export, LinearExport) else 2 * plane * window
    sums: list[tuple[Kind, int, int]] = [("dense", whole, row * whole), ("disk", whole, read)]
    if window < whole and not any_order:
        sums[0] = ("rows", window, row * window)
    # Probabilities go to disk before sums, because they are written once, but sums with every tile.
    stored = [(False, 0)]
    if settings.probabilities:
        stored = [(False, 4 * model.labels.heads * prod(case.shape)), (True, 0)]
    preparing, predicting = _peaks(case, model, geometry)
    uncertainty = uncertainty_export(model, settings, geometry)
    if uncertainty is None:
        predicting += export.working_bytes
    else:  # uncertainty is measured after the labels, and held twice, because the result is a copy
        predicting += max(export.working_bytes, uncertainty.working_bytes) + 2 * 4 * prod(case.shape)
    passes = {
        streams: streams * _tile_bytes(model, settings, channels) + engine_bytes(model, settings, channels, streams)
        for streams in range(most_streams(settings, tiles), 0, -1)
    }
    plans = [
        MemoryPlan(kind, depth, on_disk, streams, max(preparing, predicting + network + held + probabilities))
        for on_disk, probabilities in stored
        for kind, depth, held in sums
        for streams, network in passes.items()
        if kind != "disk" or (on_disk, probabilities) == stored[-1]
    ]
    return next((plan for plan in plans if plan.bytes <= budget), min(plans, key=lambda plan: plan.bytes))


def check_budget(plan: MemoryPlan, budget: int, case: Case, settings: Settings) -> None:
    """Raise `MemoryBudgetError`, with the memory needed, if even the smallest plan exceeds the budget."""
    if plan.bytes > budget:
        allowed = "are free" if settings.memory is None else "are allowed"
        raise MemoryBudgetError(
            f"{case.name} needs about {size(plan.bytes)} of memory with this model, but {size(budget)} {allowed}: "
            "close other programs, allow more memory, or cut the image"
        )


def _peaks(case: Case, model: TrainedModel, geometry: Geometry) -> tuple[int, int]:
    """Peak bytes of preparation, and bytes held during prediction besides passes, sums and probabilities."""
    image = 4 * model.input_channels * prod(geometry.shape)
    # One channel as float32, and twice while it is resampled.
    preparing = image + 4 * prod(case.shape) + 2 * 4 * max(prod(geometry.shape), prod(geometry.cropped_shape))
    return preparing, image + 2 * np.dtype(model.labels.dtype).itemsize * prod(case.shape)


def _tile_bytes(model: TrainedModel, settings: Settings, channels: int) -> int:
    """Bytes of the arrays of one tile during a pass."""
    patch = 4 * prod(model.configuration.patch_size)
    # The patch, its mirror image, the engine's output and, for several passes, their sum.
    several = len(model.folds) > 1 or (settings.mirror and model.mirror_axes)
    arrays = 2 * model.input_channels + (2 if several else 1) * channels
    if extra_channels(settings):  # probabilities of a pass, their sum or mean, and entropies
        arrays += 2 * model.labels.heads + 4
    return patch * arrays
