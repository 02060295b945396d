"""What a run will cost, before it is made: counted, not guessed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.models import Model, TrainedModel, members_of
from napari_nnunet_cpu.predict.accumulate import accumulator_bytes
from napari_nnunet_cpu.predict.grid import Grid
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
    bytes : int
        Memory of the sums, the prepared image and the probabilities, where they are largest.
    """

    tiles: int
    passes: int
    bytes: int


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


def estimate(case: Case, model: Model, settings: Settings, first_stage: npt.NDArray[Any] | None = None) -> Estimate:
    """Count the cost of a segmentation without preparing it; the image is taken whole, as if nothing were cropped.

    Parameters
    ----------
    case, model, settings, first_stage
        As `segment` takes them.

    Raises
    ------
    CaseError
        When the case does not fit the model.
    ModelError
        When several models are no ensemble.
    """
    members = members_of(model)
    tiles = passes = largest = 0
    for network, geometry in planned_runs(case, members, first_stage):
        grid = Grid.for_image(geometry.shape, network.configuration.patch_size, settings.step)
        own = math.prod(len(axis) for axis in grid.covering) if settings.cover else len(grid)
        tiles += own
        passes += own * (2 ** len(network.mirror_axes) if settings.mirror else 1) * len(network.folds)
        z, y, x = grid.padded
        image_bytes = 4 * network.input_channels * z * y * x
        largest = max(largest, accumulator_bytes(grid, network.labels.heads) + image_bytes)
    # Of an ensemble the sum so far and the probabilities of the member at hand.
    volumes = min(len(members), 2) if settings.probabilities or len(members) > 1 else 0
    return Estimate(tiles, passes, largest + volumes * 4 * members[0].labels.heads * math.prod(case.shape))
