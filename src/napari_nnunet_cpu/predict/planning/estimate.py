"""Estimate the cost of a segmentation before it begins: tiles, seconds and memory."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.models import Model, members_of
from napari_nnunet_cpu.predict.passes import accumulated_channels
from napari_nnunet_cpu.predict.planning.plan import Estimate, export_of, plan_run
from napari_nnunet_cpu.predict.planning.planned_runs import planned_runs
from napari_nnunet_cpu.predict.tiles import cropped_box
from napari_nnunet_cpu.predict.uncertainty import check_members
from napari_nnunet_cpu.settings import Settings


def check_fit(case: Case, model: Model, settings: Settings, first_stage: npt.NDArray[Any] | None = None) -> None:
    """Raise the errors of `estimate` without counting tiles, so that a window need not wait."""
    members = members_of(model)
    check_members(settings, members)
    for run in planned_runs(case, members, settings, first_stage):
        export_of(run.model, run.settings, run.geometry)
        cropped_box(run.geometry, run.settings)


def estimate(
    case: Case,
    model: Model,
    settings: Settings,
    first_stage: npt.NDArray[Any] | None = None,
    any_order: bool = False,
    nonzero: Box | None = None,
) -> Estimate:
    """Estimate the cost of a segmentation from the shape of the case, without reading its intensities.

    Parameters
    ----------
    case, model, settings, first_stage, any_order
        As `Segmentation` takes them.
    nonzero : Box, optional
        The box that the case is cropped to, from `prepare.nonzero_box`; by default the whole image.

    Raises
    ------
    CaseError
        When the case does not fit the model.
    ModelError
        When several models are no ensemble, or plans resample images, but not logits.
    SettingsError
        When the box exceeds the image, or a tile has a single pass, so that there is no disagreement.
    """
    members = members_of(model)
    check_members(settings, members)
    costs, held = [], 0
    for run in planned_runs(case, members, settings, first_stage, nonzero):
        channels = accumulated_channels(run.model, run.settings)
        plan = plan_run(case, run.model, run.settings, run.geometry, channels, any_order)
        costs.append(plan.estimate)
        # The sum of the members' probabilities, besides those of the present member.
        if len(members) > 1 and not plan.memory.probabilities_on_disk:
            held = 4 * run.model.labels.heads * prod(case.shape)
    largest = max(costs, key=lambda cost: cost.bytes)
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    return Estimate(
        sum(cost.tiles for cost in costs),
        sum(cost.passes for cost in costs),
        sum(seconds) if len(seconds) == len(costs) else None,
        largest.bytes + held,
        largest.plan,
    )
