"""All passes of a tile, averaged: its patch through every fold, mirrored or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines import Engine
from napari_nnunet_cpu.predict.passes.disagreement import Disagreement
from napari_nnunet_cpu.predict.passes.mirroring import mean_output
from napari_nnunet_cpu.predict.passes.patches import Patches
from napari_nnunet_cpu.predict.tiles import Tile

Array = npt.NDArray[np.float32]
Channels = tuple[Array, list[Array]]


@dataclass(frozen=True)
class TilePasses:
    """Computes the channels of tiles.

    `mirror_axes` are axes of the patch, `should_stop` is asked before every pass, and `disagreement` makes the measure
    for a tile, or returns None if the settings do not ask for it.
    """

    engine: Engine
    patches: Patches
    mirror_axes: Sequence[int]
    disagreement: Callable[[], Disagreement | None]
    should_stop: Callable[[], bool]

    def of(self, tile: Tile) -> Channels | None:
        """Logits or features (C, Z, Y, X) of a tile, and its disagreement (Z, Y, X) if measured; None if stopped."""
        measure = self.disagreement()
        watch = None if measure is None else measure.show
        mean = mean_output(self.engine, self.patches.of(tile), self.mirror_axes, self.should_stop, watch)
        if mean is None:
            return None
        extra = [] if measure is None else [measure.value().reshape(tile.size)]
        return mean.reshape(-1, *tile.size), extra
