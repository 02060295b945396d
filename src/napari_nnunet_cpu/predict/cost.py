"""What a run will cost, before it is made: counted, and timed by the runs before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy.typing as npt

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import threads_of
from napari_nnunet_cpu.events import duration, size
from napari_nnunet_cpu.export import LabelExport, ProbabilityExport, label_export
from napari_nnunet_cpu.models import Model, TrainedModel, members_of
from napari_nnunet_cpu.predict.choice import chosen_tiles
from napari_nnunet_cpu.predict.doubt import check_members
from napari_nnunet_cpu.predict.grid import Grid
from napari_nnunet_cpu.predict.memory import Kind, MemoryPlan, budget_bytes, plan_memory
from napari_nnunet_cpu.predict.summed import channels_summed
from napari_nnunet_cpu.predict.times import Work, read_times
from napari_nnunet_cpu.prepare import Geometry, check_first_stage, plan_geometry
from napari_nnunet_cpu.settings import Settings


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a segmentation.

    Attributes
    ----------
    tiles : int
        Tiles of all runs; fewer if the image is cropped.
    passes : int
        Times a network is run: tiles, times mirrored copies, times folds.
    seconds : float or None
        On this computer, by what the last runs of the same networks took; None where one of them never ran here.
    bytes : int
        Memory at the peak, on top of what the process holds before, about.
    plan : {"dense", "rows", "disk"}
        What is held at a time of the sums, see `MemoryPlan`; of several runs that of the largest.
    """

    tiles: int
    passes: int
    seconds: float | None
    bytes: int
    plan: Kind

    @property
    def text(self) -> str:
        """The cost, for people."""
        time = "time not known before the first run" if self.seconds is None else f"about {duration(self.seconds)}"
        return f"{self.tiles} tiles, {self.passes} passes, {time}, about {size(self.bytes)} of memory ({self.plan})"


def planned_runs(
    case: Case, members: Sequence[TrainedModel], first_stage: npt.NDArray[Any] | None
) -> list[tuple[TrainedModel, Geometry]]:
    """The networks of a segmentation in the order they run, and where the whole image lies for each.

    Raises
    ------
    CaseError
        When the case, or the labels of a first stage that is not run, do not fit one of them.
    """
    runs = []
    for member in members:
        alone = first_stage is not None or member.first_stage is None
        if member.cascade and alone:
            check_first_stage(first_stage, case, member)
        runs += [(network, plan_geometry(case, network)) for network in ((member,) if alone else member.stages)]
    return runs


def estimate(
    case: Case,
    model: Model,
    settings: Settings,
    first_stage: npt.NDArray[Any] | None = None,
    any_order: bool = False,
) -> Estimate:
    """Say what a segmentation will cost without preparing it; the image is taken whole, as if nothing were cropped.

    Parameters
    ----------
    case, model, settings, first_stage, any_order
        As `Segmentation` takes them.

    Raises
    ------
    CaseError
        When the case does not fit the model.
    ModelError
        When several models are no ensemble, or plans do not lead back to the image.
    SettingsError
        When the box reaches out of the case, or there is no disagreement to measure.
    """
    members = members_of(model)
    check_members(settings, members)
    kept = settings.probabilities or len(members) > 1
    costs, held = [], 0
    for network, geometry in planned_runs(case, members, first_stage):
        # An ensemble needs every member's probabilities, doubt is made of their mean; a first stage needs all tiles.
        last = any(network is member for member in members)
        own = replace(
            settings,
            probabilities=kept and last,
            box=settings.box if last else None,
            doubt=settings.doubt if last and len(members) == 1 else None,
        )
        grid = Grid.for_image(geometry.shape, network.configuration.patch_size, settings.step)
        export, channels = export_of(network, own, geometry), channels_summed(network, own)
        plan = plan_memory(case, network, own, geometry, grid, export, budget_bytes(own), any_order, channels)
        tiles = chosen_tiles(grid, export, geometry, own)
        costs.append(estimate_run(case, network, own, geometry, len(tiles), plan))
        if len(members) > 1 and not plan.probabilities_on_disk:  # the sum so far, beside those of the member at hand
            held = 4 * network.labels.heads * prod(case.shape)
    largest = max(costs, key=lambda cost: cost.bytes)
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    return Estimate(
        sum(cost.tiles for cost in costs),
        sum(cost.passes for cost in costs),
        sum(seconds) if len(seconds) == len(costs) else None,
        largest.bytes + held,
        largest.plan,
    )


def estimate_run(
    case: Case, model: TrainedModel, settings: Settings, geometry: Geometry, tiles: int, plan: MemoryPlan
) -> Estimate:
    """The cost of one run of so many tiles."""
    passes = tiles * (2 ** len(model.mirror_axes) if settings.mirror else 1) * len(model.folds)
    times = read_times(model, settings)
    seconds = None if times is None else times.of(Work.counted(case, model, settings, geometry, passes))
    return Estimate(tiles, passes, seconds, plan.bytes, plan.kind)


def export_of(model: TrainedModel, settings: Settings, geometry: Geometry) -> LabelExport:
    """How the run makes labels: from logits, or by way of probabilities where they are to be kept."""
    if settings.probabilities:
        return ProbabilityExport(model, geometry)
    return label_export(model, geometry, threads_of(settings))
