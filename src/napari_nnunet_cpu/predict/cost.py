"""What a run will cost, before it is made: counted, not guessed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.accumulate import accumulator_bytes
from napari_nnunet_cpu.predict.grid import Grid
from napari_nnunet_cpu.prepare import plan_geometry
from napari_nnunet_cpu.settings import Settings


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a run.

    Attributes
    ----------
    tiles : int
        Tiles of the run; fewer if the image is cropped.
    passes : int
        Times the network is run: tiles, times mirrored copies, times folds.
    bytes : int
        Memory of the sums and the prepared image.
    """

    tiles: int
    passes: int
    bytes: int


def estimate(case: Case, model: TrainedModel, settings: Settings) -> Estimate:
    """Count the cost of a run without preparing it; the image is taken whole, as if nothing were cropped.

    Raises
    ------
    CaseError
        When the case does not fit the model.
    """
    geometry = plan_geometry(case, model)
    grid = Grid.for_image(geometry.shape, model.configuration.patch_size, settings.step)
    tiles = math.prod(len(axis) for axis in grid.covering) if settings.cover else len(grid)
    mirrored = 2 ** len(model.mirror_axes) if settings.mirror else 1
    z, y, x = grid.padded
    image_bytes = 4 * len(case.channels) * z * y * x
    return Estimate(
        tiles, tiles * mirrored * len(model.folds), accumulator_bytes(grid, model.labels.heads) + image_bytes
    )
