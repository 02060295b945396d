"""Weighted sums of overlapping tiles in float32.

Source of the weights: `compute_gaussian` in nnU-Net `inference/sliding_window_prediction.py`.
nnU-Net adds in float16 and in place, in tensors that torch guards. The sums here are numpy arrays,
because writing to those can't raise "Inplace update to inference tensor".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_nnunet_cpu.boxes import Box, Triple
from napari_nnunet_cpu.export import Array, Logits, ScratchArray
from napari_nnunet_cpu.models.network import HeadLayer
from napari_nnunet_cpu.predict.tiles import Grid, Tile

# Products (voxels times channels) that are computed before they are added: few, because they must stay in the CPU's
# cache. More threads were not faster, because adding waits for memory.
_STRIP_PRODUCTS = 2**17


class Accumulator:
    """The weighted sums of overlapping tiles.

    The buffer holds `depth` rows (positions along the first axis) of the padded image at a time, all rows by default.
    Rows released with `forget` are reused, so the buffer slides along the image if tiles come row by row.

    `channels` is the number of accumulated channels (heads or features), and `extra_channels` that of channels which do
    not come from the network. `layer` returns the layer that turns features into heads, or None if the channels are the
    heads. It is called once tiles are added, because the engine may not exist earlier.
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
        self._sums = self._store.array  # the channels, then the weights, then the extra channels
        self._first = self._needed = 0  # the first row in the buffer, and the first row still needed

    def holds(self, tile: Tile) -> bool:
        """Whether the buffer has room for the tile: its rows are not forgotten and not too far ahead."""
        start = tile.start[0]
        return self._first <= start and start + tile.size[0] <= min(self._needed, start) + self._depth

    def add(self, tile: Tile, channels: Array, extra_channels: Sequence[Array] = ()) -> None:
        """Add a tile that the buffer has room for: its channels (C, Z, Y, X) and extra channels (Z, Y, X).

        The arrays are not changed. They are added in strips of all channels, because that is fast in any memory order.
        """
        if tile.start[0] + tile.size[0] > self._first + self._depth:
            self._move(min(self._needed, tile.start[0]))
        place = tile.box.seen_from((self._first, 0, 0)).slices
        self._sums[self._channels][place] += self._window
        self._add_weighted(self._sums[: self._channels, *place], channels)
        for sums, channel in zip(self._sums[self._channels + 1 :], extra_channels, strict=True):
            self._add_weighted(sums[None, *place], channel[None])

    def logits(self, box: Box) -> Logits:
        """The sums in a box of the image whose rows are not forgotten; views if the buffer holds all of them."""
        sums, weights = self._in_image(box)
        layer = self._layer()
        return Logits(sums[: self._channels + (layer is not None)], weights, self._store.release, layer)

    def extra_channels(self, box: Box) -> Logits:
        """The sums of the extra channels in a box of the image, see `logits`."""
        sums, weights = self._in_image(box)
        return Logits(sums[self._channels + 1 :], weights, self._store.release)

    def _in_image(self, box: Box) -> tuple[Array, Array]:
        """All sums in a box of the image, and the sums of the weights."""
        sums = self._held(box.moved(self._before))
        missing = box.shape[0] - sums.shape[1]  # rows ahead of the buffer, where no tile was added yet
        if missing:
            sums = np.pad(sums, ((0, 0), (0, missing), (0, 0), (0, 0)))
        return sums, sums[self._channels]

    def copy_of(self, box: Box) -> Array:
        """A copy of all sums in a box of the padded image: (channels, weights and extra channels; Z, Y, X).

        Forgotten rows are 0.
        """
        sums = self._held(box)
        forgotten = min(max(self._first - box.z[0], 0), box.shape[0])
        copy = np.pad(sums, ((0, 0), (forgotten, 0), (0, 0), (0, 0)))
        self._store.release()
        return copy

    def restore(self, box: Box, copy: Array) -> None:
        """Restore the result of `copy_of` for a box; the buffer must have room for the rows still needed."""
        if box.z[1] > self._first + self._depth:
            self._move(self._needed)
        sums = self._held(box)
        sums[...] = copy[:, copy.shape[1] - sums.shape[1] :]
        self._store.release()

    def forget(self, row: int) -> None:
        """Release the rows of the padded image before this one; their memory is reused when other rows need it."""
        self._needed = max(row, self._first)

    @property
    def _depth(self) -> int:
        """Rows in the buffer."""
        return int(self._sums.shape[1])

    def _held(self, box: Box) -> Array:
        """A view of the sums in a box of the padded image, as far as the buffer holds its rows."""
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
        """Move the buffer so that it starts with this row; new rows are 0."""
        by = min(first - self._first, self._depth)
        for rows in self._sums:  # channel by channel, because numpy copies overlapping sources as a whole
            rows[: len(rows) - by] = rows[by:]
            rows[len(rows) - by :] = 0
        self._first = first


def gaussian_window(patch: Triple) -> Array:
    """The weights of a tile, float32: a Gaussian with sigma an eighth of the patch, 10 in the middle, never 0.

    They are rounded to float16 as in nnU-Net, which changes them by up to 0.05 %.
    """
    impulse = np.zeros(patch)
    impulse[tuple(length // 2 for length in patch)] = 1
    window = gaussian_filter(impulse, [length / 8 for length in patch], mode="constant")
    rounded = (window / (window.max() / 10)).astype(np.float16)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    weights: Array = rounded.astype(np.float32)
    return weights
