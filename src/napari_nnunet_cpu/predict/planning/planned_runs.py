"""The runs of a segmentation in order, with the network and settings of each: one list for the estimate and the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.prepare import Geometry, check_first_stage, plan_geometry
from napari_nnunet_cpu.settings import Settings


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run of a segmentation."""

    model: TrainedModel
    settings: Settings  # differ from those of the segmentation for first stages and ensembles
    geometry: Geometry  # of the whole image, if its nonzero box is not known
    first_stage: bool  # its labels only serve the run after it


def planned_runs(
    case: Case,
    members: Sequence[TrainedModel],
    settings: Settings,
    first_stage: npt.NDArray[Any] | None,
    nonzero: Box | None = None,
) -> list[PlannedRun]:
    """The runs that segment a case with these members, in order; `nonzero` is the box that it is cropped to.

    Raises `CaseError` if the case, or the given labels of a first stage, do not fit one of the networks.
    """
    runs = []
    ensemble = len(members) > 1
    # An ensemble averages the probabilities of its members, and measures uncertainty on their mean.
    own = replace(settings, probabilities=True, uncertainty=None) if ensemble else settings
    # The second stage needs nothing but labels from the first stage, but needs them everywhere.
    for_first_stage = replace(settings, probabilities=False, uncertainty=None, box=None)
    for member in members:
        if first_stage is None and member.first_stage is not None:
            network = member.first_stage
            runs.append(PlannedRun(network, for_first_stage, plan_geometry(case, network, nonzero), first_stage=True))
        elif member.cascade:
            check_first_stage(first_stage, case, member)
        runs.append(PlannedRun(member, own, plan_geometry(case, member, nonzero), first_stage=False))
    return runs
