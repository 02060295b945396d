"""What a run will cost, before it is made: counted, and timed by the runs before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy.typing as npt

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.models import Model, TrainedModel, members_of
from napari_nnunet_cpu.predict.passes.accumulated_channels import accumulated_channels
from napari_nnunet_cpu.predict.planning.plan import Estimate, plan_run
from napari_nnunet_cpu.predict.uncertainty import check_members
from napari_nnunet_cpu.prepare import Geometry, check_first_stage, plan_geometry
from napari_nnunet_cpu.settings import Settings


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
        # An ensemble needs every member's probabilities, and measures uncertainty on their mean. A first stage needs
        # all tiles.
        last = any(network is member for member in members)
        own = replace(
            settings,
            probabilities=kept and last,
            box=settings.box if last else None,
            uncertainty=settings.uncertainty if last and len(members) == 1 else None,
        )
        plan = plan_run(case, network, own, geometry, accumulated_channels(network, own), any_order)
        costs.append(plan.estimate)
        # The sum so far, beside those of the member at hand.
        if len(members) > 1 and not plan.memory.probabilities_on_disk:
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
