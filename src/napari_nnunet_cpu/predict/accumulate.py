"""Sums of overlapping tiles, in float32 buffers of our own.

Source of the weights: `compute_gaussian` in nnU-Net `inference/sliding_window_prediction.py`.
nnU-Net adds in float16, in place, in tensors that torch guards; here nothing but numpy arrays
is ever written to, so no caller can meet "Inplace update to inference tensor".
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_nnunet_cpu.boxes import Bounds, slices
from napari_nnunet_cpu.export.logits import Array, Logits
from napari_nnunet_cpu.export.store import Store
from napari_nnunet_cpu.predict.grid import Grid, Tile, Triple

# Voxels that are multiplied before they are added: few enough to stay in the cache. Adding waits for memory, so that
# more threads were no faster.
_STRIP_VOXELS = 2**18


class Accumulator:
    """Takes the logits of tiles and gives their weighted sums back.

    It holds `depth` rows (places along the first axis) at a time. What was said to be needed no more makes room
    for the rows of tiles further on, so that a window goes through the image, which holds less than all of it
    when tiles come row by row.

    Parameters
    ----------
    grid : Grid
        Says the shapes.
    heads : int
        Output channels of the network.
    depth : int, optional
        Rows of the padded image held at a time; all of them when None.
    on_disk : bool
        Hold them in a file instead of in memory.
    beside : int
        Further heads, not the network's, that are averaged with the same weights.
    """

    def __init__(
        self, grid: Grid, heads: int, depth: int | None = None, on_disk: bool = False, beside: int = 0
    ) -> None:
        rows, y, x = grid.padded
        depth = rows if depth is None else depth
        self._inside = grid.inside()
        self._window = gaussian_window(grid.patch)
        self._heads = heads
        self._stores = Store((heads + beside, depth, y, x), on_disk), Store((depth, y, x), on_disk)
        self._sums, self._weights = (store.array for store in self._stores)
        self._first = self._needed = 0  # the row that comes first in the arrays, and the first one still needed

    def holds(self, tile: Tile) -> bool:
        """Whether there is room for the tile: its rows are not forgotten, and not too far ahead of those needed."""
        start = tile.start[0]
        return self._first <= start and start + tile.size[0] <= min(self._needed, start) + len(self._weights)

    def add(self, tile: Tile, logits: Iterable[Array]) -> None:
        """Add the heads (Z, Y, X) of one tile, for which there is room; those beside come last. They stay as is."""
        if tile.start[0] + tile.size[0] > self._first + len(self._weights):
            self._move(min(self._needed, tile.start[0]))
        rows, lines, columns = tile.slices()
        place = (slice(rows.start - self._first, rows.stop - self._first), lines, columns)

        for sums, head in zip(self._sums, logits, strict=True):
            self._add_weighted(sums[place], head)
            self._release()
        self._weights[place] += self._window
        self._release()

    def logits(self, box: Bounds) -> Logits:
        """The sums in a box of the image, none of its rows forgotten: views, where they are all held."""
        return self._in_image(box, slice(self._heads))

    def beside(self, box: Bounds) -> Logits:
        """The sums of the heads that are not the network's, as `logits` gives those that are."""
        return self._in_image(box, slice(self._heads, None))

    def _in_image(self, box: Bounds, heads: slice) -> Logits:
        z, y, x = (
            (start + inside.start, stop + inside.start) for (start, stop), inside in zip(box, self._inside, strict=True)
        )
        sums, weights = self._held((z, y, x))
        sums = sums[heads]
        missing = z[1] - z[0] - len(weights)  # rows ahead of the window, where no tile lies yet
        if missing:
            sums = np.pad(sums, ((0, 0), (0, missing), (0, 0), (0, 0)))
            weights = np.pad(weights, ((0, missing), (0, 0), (0, 0)))
        return Logits(sums, weights, self._release)

    def copy_of(self, box: Bounds) -> Array:
        """The sums of the heads, then the weights, in a box of the padded image: (heads + 1, Z, Y, X).

        Rows that are forgotten are 0.
        """
        sums, weights = self._held(box)
        forgotten = min(max(self._first - box[0][0], 0), box[0][1] - box[0][0])
        copy = np.zeros((len(sums) + 1, forgotten + len(weights), *weights.shape[1:]), np.float32)
        copy[:-1, forgotten:], copy[-1, forgotten:] = sums, weights
        self._release()
        return copy

    def restore(self, box: Bounds, copy: Array) -> None:
        """Put back what `copy_of` gave for a box; there must be room for its rows that are still needed."""
        if box[0][1] > self._first + len(self._weights):
            self._move(self._needed)
        sums, weights = self._held(box)
        forgotten = copy.shape[1] - len(weights)
        sums[...], weights[...] = copy[:-1, forgotten:], copy[-1, forgotten:]
        self._release()

    def forget(self, row: int) -> None:
        """Say that no row of the padded image before this one is needed: they go when others need the room."""
        self._needed = max(row, self._first)

    @property
    def nbytes(self) -> int:
        """Size of the sums, in memory or on disk."""
        return self._sums.nbytes + self._weights.nbytes

    def _held(self, box: Bounds) -> tuple[Array, Array]:
        """Sums and weights in a box of the padded image, as far as its rows are held: views."""
        (start, stop), lines, columns = box
        rows, y, x = slices(((max(start - self._first, 0), max(stop - self._first, 0)), lines, columns))
        return self._sums[:, rows, y, x], self._weights[rows, y, x]

    def _add_weighted(self, sums: Array, logits: Array) -> None:
        planes = max(_STRIP_VOXELS // self._window[0].size, 1)
        product = np.empty((planes, *self._window.shape[1:]), np.float32)
        for first in range(0, len(logits), planes):
            weights = self._window[first : first + planes]
            part = product[: len(weights)]
            np.multiply(logits[first : first + planes], weights, out=part)
            sums[first : first + planes] += part

    def _move(self, first: int) -> None:
        """Let the rows held start with this one; those that come in are 0."""
        by = min(first - self._first, len(self._weights))
        for rows in (*self._sums, self._weights):  # one by one: where source and target overlap numpy copies all
            rows[: len(rows) - by] = rows[by:]
            rows[len(rows) - by :] = 0
        self._first = first

    def _release(self) -> None:
        for store in self._stores:
            store.release()


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
