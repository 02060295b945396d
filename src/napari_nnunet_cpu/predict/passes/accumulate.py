"""Sums of overlapping tiles, in float32 buffers of our own.

Source of the weights: `compute_gaussian` in nnU-Net `inference/sliding_window_prediction.py`.
nnU-Net adds in float16, in place, in tensors that torch guards; here nothing but numpy arrays
is ever written to, so no caller can meet "Inplace update to inference tensor".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_nnunet_cpu.boxes import Box, Triple
from napari_nnunet_cpu.export.logits import Array, Logits
from napari_nnunet_cpu.export.scratch_array import ScratchArray
from napari_nnunet_cpu.models.network.head_layer import HeadLayer
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile

# What is multiplied before it is added, voxels times channels: few enough to stay in the cache. Adding waits for
# memory, so that more threads were no faster.
_STRIP_PRODUCTS = 2**17


class Accumulator:
    """Takes what the network gives for tiles, and gives weighted sums back.

    It holds `depth` rows (places along the first axis) at a time. What was said to be needed no more makes room
    for the rows of tiles further on, so that a window goes through the image, which holds less than all of it
    when tiles come row by row.

    Parameters
    ----------
    grid : Grid
        Says the shapes.
    channels : int
        What tiles have: heads, or features.
    depth : int, optional
        Rows of the padded image held at a time; all of them when None.
    on_disk : bool
        Hold them in a file instead of in memory.
    extra_channels : int
        Further channels, not the network's, that are averaged with the same weights.
    layer : callable
        Asked for what makes heads of the channels, once there are some; None where they are the heads.
    """

    def __init__(
        self,
        grid: Grid,
        channels: int,
        depth: int | None = None,
        on_disk: bool = False,
        extra_channels: int = 0,
        layer: Callable[[], HeadLayer | None] = lambda: None,
    ) -> None:
        rows, y, x = grid.padded
        depth = rows if depth is None else depth
        self._before = grid.before
        self._window = gaussian_window(grid.patch)
        self._layer = layer
        self._channels = channels
        self._store = ScratchArray((channels + 1 + extra_channels, depth, y, x), on_disk)
        self._sums = self._store.array  # of the channels; of 1, which is that of the weights; of what is beside
        self._first = self._needed = 0  # the row that comes first in the arrays, and the first one still needed

    def holds(self, tile: Tile) -> bool:
        """Whether there is room for the tile: its rows are not forgotten, and not too far ahead of those needed."""
        start = tile.start[0]
        return self._first <= start and start + tile.size[0] <= min(self._needed, start) + self._depth

    def add(self, tile: Tile, channels: Array, extra_channels: Sequence[Array] = ()) -> None:
        """Add one tile, for which there is room: its channels (C, Z, Y, X), and those beside (Z, Y, X). They stay so.

        That is done strip by strip, each of all channels, so that it matters little how these lie in memory.
        """
        if tile.start[0] + tile.size[0] > self._first + self._depth:
            self._move(min(self._needed, tile.start[0]))
        place = tile.box.seen_from((self._first, 0, 0)).slices
        self._sums[self._channels][place] += self._window
        self._add_weighted(self._sums[: self._channels, *place], channels)
        for sums, channel in zip(self._sums[self._channels + 1 :], extra_channels, strict=True):
            self._add_weighted(sums[None, *place], channel[None])

    def logits(self, box: Box) -> Logits:
        """The sums in a box of the image, none of its rows forgotten: views, where they are all held."""
        sums, weights = self._in_image(box)
        layer = self._layer()
        return Logits(sums[: self._channels + (layer is not None)], weights, self._store.release, layer)

    def extra_channels(self, box: Box) -> Logits:
        """The sums of the channels that are not the network's, as `logits` gives those that are."""
        sums, weights = self._in_image(box)
        return Logits(sums[self._channels + 1 :], weights, self._store.release)

    def _in_image(self, box: Box) -> tuple[Array, Array]:
        """All sums in a box of the image, and those of the weights."""
        sums = self._held(box.moved(self._before))
        missing = box.shape[0] - sums.shape[1]  # rows ahead of the window, where no tile lies yet
        if missing:
            sums = np.pad(sums, ((0, 0), (0, missing), (0, 0), (0, 0)))
        return sums, sums[self._channels]

    def copy_of(self, box: Box) -> Array:
        """All sums in a box of the padded image: (channels, weights and what is beside; Z, Y, X).

        Rows that are forgotten are 0.
        """
        sums = self._held(box)
        forgotten = min(max(self._first - box.z[0], 0), box.shape[0])
        copy = np.pad(sums, ((0, 0), (forgotten, 0), (0, 0), (0, 0)))
        self._store.release()
        return copy

    def restore(self, box: Box, copy: Array) -> None:
        """Put back what `copy_of` gave for a box; there must be room for its rows that are still needed."""
        if box.z[1] > self._first + self._depth:
            self._move(self._needed)
        sums = self._held(box)
        sums[...] = copy[:, copy.shape[1] - sums.shape[1] :]
        self._store.release()

    def forget(self, row: int) -> None:
        """Say that no row of the padded image before this one is needed: they go when others need the room."""
        self._needed = max(row, self._first)

    @property
    def _depth(self) -> int:
        """Rows that are held at a time."""
        return int(self._sums.shape[1])

    def _held(self, box: Box) -> Array:
        """The sums in a box of the padded image, as far as its rows are held: a view."""
        start, stop = (max(row - self._first, 0) for row in box.z)
        return self._sums[:, *box._replace(z=(start, stop)).slices]

    def _add_weighted(self, sums: Array, channels: Array) -> None:
        lines = max(_STRIP_PRODUCTS // channels[:, 0, 0].size, 1)
        products = np.empty((len(channels), min(lines, channels.shape[2]), channels.shape[3]), np.float32)
        for plane in range(channels.shape[1]):
            for line in range(0, channels.shape[2], lines):
                strip = (plane, slice(line, line + lines))
                weights = self._window[strip]
                product = products[:, : len(weights)]
                np.multiply(channels[:, *strip], weights, out=product)
                sums[:, *strip] += product
            self._store.release()

    def _move(self, first: int) -> None:
        """Let the rows held start with this one; those that come in are 0."""
        by = min(first - self._first, self._depth)
        for rows in self._sums:  # one by one: where source and target overlap numpy copies all
            rows[: len(rows) - by] = rows[by:]
            rows[len(rows) - by :] = 0
        self._first = first


def gaussian_window(patch: Triple) -> Array:
    """Weights of a tile: a Gaussian of an eighth of the patch, 10 in the middle, never 0.

    They are rounded to float16, which nnU-Net does and which changes them by up to 0.05 %.

    Parameters
    ----------
    patch : tuple of int
        Voxels (Z, Y, X).

    Returns
    -------
    numpy.ndarray
        Shape `patch`, float32.
    """
    impulse = np.zeros(patch)
    impulse[tuple(length // 2 for length in patch)] = 1
    window = gaussian_filter(impulse, [length / 8 for length in patch], mode="constant")
    rounded = (window / (window.max() / 10)).astype(np.float16)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    weights: Array = rounded.astype(np.float32)
    return weights
