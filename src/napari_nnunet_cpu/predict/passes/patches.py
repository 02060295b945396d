"""Parts of the prepared image, as the network takes them: padded where they reach over its edge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile

Array = npt.NDArray[np.float32]


class Patches:
    """The patches of an image that may be smaller than one: with zeros around it, which are never made as a whole.

    Parameters
    ----------
    image : numpy.ndarray
        Prepared, shape (C, *grid.shape), float32.
    grid : Grid
        Says where the image lies in the padded one.
    flat : bool
        Whether the network takes slices (C, Y, X), not volumes.
    """

    def __init__(self, image: Array, grid: Grid, flat: bool) -> None:
        self._image = image
        self._grid = grid
        self._flat = flat

    def of(self, tile: Tile) -> Array:
        """The tile's part: shape (C, Z, Y, X), or (C, Y, X) for a network that takes slices; perhaps a view."""
        return self._part(tile.box)

    def spread(self, size: Sequence[int], most: int) -> Iterator[Array]:
        """Parts of the image in an order that goes all over it.

        Parameters
        ----------
        size : sequence of int
            Of each part: (Z, Y, X), or (Y, X) for a network that takes slices; at most the patch.
        most : int
            At most so many.

        Yields
        ------
        numpy.ndarray
            Shape (C, *size), contiguous.
        """
        for box in self._grid.spread(size, most):
            yield np.ascontiguousarray(self._part(box))

    def _part(self, box: Box) -> Array:
        part = _padded(self._image, self._grid, box)
        return part[:, 0] if self._flat else part


def _padded(image: Array, grid: Grid, box: Box) -> Array:
    """A part of the padded image (C, Z, Y, X): a view where it lies in the image."""
    inside = box.common(grid.inside)
    if inside == box:
        return image[:, *box.seen_from(grid.before).slices]
    padded = np.zeros((len(image), *box.shape), np.float32)
    if inside is not None:
        padded[:, *inside.seen_from(box.start).slices] = image[:, *inside.seen_from(grid.before).slices]
    return padded
