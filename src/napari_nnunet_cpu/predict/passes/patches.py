"""Cut patches from the prepared image, padded with zeros beyond its edge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.predict.tiles import Grid, Tile

Array = npt.NDArray[np.float32]


class Patches:
    """The patches of a prepared image (C, *grid.shape), float32.

    The padded image is never made as a whole. With `flat` the network takes slices (C, Y, X) instead of volumes.
    """

    def __init__(self, image: Array, grid: Grid, flat: bool) -> None:
        self._image = image
        self._grid = grid
        self._flat = flat

    def of(self, tile: Tile) -> Array:
        """The patch of a tile: (C, Z, Y, X), or (C, Y, X) for a network of slices; a view if it needs no padding."""
        return self._part(tile.box)

    def spread(self, size: Sequence[int], most: int) -> Iterator[Array]:
        """At most `most` parts of the image, spread over it in random order: contiguous, (C, *size).

        `size` is (Z, Y, X), or (Y, X) for a network of slices, and at most the patch.
        """
        for box in self._grid.spread(size, most):
            yield np.ascontiguousarray(self._part(box))

    def _part(self, box: Box) -> Array:
        """A part of the padded image; a view if it lies inside the image."""
        before, inside = self._grid.before, box.common(self._grid.inside)
        if inside == box:
            part = self._image[:, *box.seen_from(before).slices]
        else:
            part = np.zeros((len(self._image), *box.shape), np.float32)
            if inside is not None:
                part[:, *inside.seen_from(box.start).slices] = self._image[:, *inside.seen_from(before).slices]
        return part[:, 0] if self._flat else part
