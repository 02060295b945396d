"""Labels where logits are resampled linearly: a box at a time, and logits blended only where it matters.

A linear blend of voxels lies between them. So where all of up to eight voxels around a voxel of the image have
the same winner, that is the winner there, too, and most voxels are inside of something. At the others all heads
are blended and compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Bounds
from napari_nnunet_cpu.export.logits import Logits, LogitsOf
from napari_nnunet_cpu.export.winner import Winner, label_values
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.prepare.axis_weights import Taps
from napari_nnunet_cpu.prepare.geometry import Shape

# How much is worked on at a time: logits of a slab (256 MB), and voxels and heads that fit a core's cache.
SLAB_LOGITS = 2**26
_STRIP_VOXELS = 2**14
_SUMS_AT_ONCE = 4

Codes = npt.NDArray[Any]


class LinearExport:
    """Labels of boxes of the image, from the logits of the voxels that they lie between.

    Parameters
    ----------
    labels : Labels
        Of the model.
    taps : tuple of Taps
        From the prepared image to what was kept of the image, axis by axis.
    source : tuple of int
        Shape of the prepared image (Z, Y, X).
    shape : tuple of int
        Of what was kept of the image (Z, Y, X).
    threads : int
        That work at a time.
    """

    def __init__(
        self, labels: Labels, taps: tuple[Taps, Taps, Taps], source: Shape, shape: Shape, threads: int
    ) -> None:
        self._labels = labels
        self._threads = threads
        self._values = label_values(labels)
        self._taps = taps
        self._source = source
        self._shape = shape

    def pieces(self, box: Bounds) -> Iterator[Bounds]:
        """The box, cut into slabs along the first axis."""
        return ((slab, *box[1:]) for slab in slabs_of(*box[0], self._step))

    @property
    def working_bytes(self) -> int:
        """Memory of a slab: who won in its rows, its labels, and what the threads blend."""
        step = min(self._step, self._shape[0])
        plane, kept = prod(self._source[1:]), prod(self._shape[1:])
        codes = np.min_scalar_type(self._labels.heads).itemsize * (step * self._source[0] // self._shape[0] + 2) * plane
        strips = self._threads * 8 * 4 * _SUMS_AT_ONCE * min(_STRIP_VOXELS, max(plane, kept))
        return codes + self._values.itemsize * step * kept + strips

    def needed(self, box: Bounds) -> Bounds:
        """The box of the prepared image that the labels of a box depend on."""
        z, y, x = (taps.span(*side) for taps, side in zip(self._taps, box, strict=True))
        return z, y, x

    def labels(self, logits: LogitsOf, box: Bounds) -> npt.NDArray[Any]:
        """The labels of a box of the kept image.

        Parameters
        ----------
        logits : callable
            Gives the logits of a box of the prepared image; it is asked for what is `needed`.
        box : tuple of (int, int)
            At least one voxel.

        Returns
        -------
        numpy.ndarray
            Shape (Z, Y, X) of the box, uint8 or uint16.
        """
        needed = self.needed(box)
        part = logits(needed)
        codes = np.empty(part.shape, dtype=np.min_scalar_type(self._labels.heads))
        result = np.empty([stop - start for start, stop in box], dtype=self._values.dtype)
        planes, lines, columns = (
            taps[slice(*side)].moved(-first) for taps, side, (first, _) in zip(self._taps, box, needed, strict=True)
        )

        def decide(place: tuple[int, slice]) -> None:
            winner = Winner(self._labels, codes[place].shape)
            winner.show_all(part.heads(part.sums[:, *place]))
            codes[place] = winner.code

        def export(place: tuple[int, slice]) -> None:
            row, strip = place
            found = self._strip(part, codes, planes[np.array([row])], lines[strip], columns)
            self._values.take(found, out=result[place], mode="clip")

        with ThreadPoolExecutor(self._threads) as pool:
            for work, array in ((decide, codes), (export, result)):
                for _ in pool.map(work, _strips(array.shape)):  # so that errors are heard
                    pass
        part.release()
        return result

    @property
    def _step(self) -> int:
        """Rows of a slab."""
        rows, y, x = self._source
        return max(SLAB_LOGITS * self._shape[0] // (self._labels.heads * rows * y * x), 1)

    def _strip(self, logits: Logits, codes: Codes, plane: Taps, lines: Taps, columns: Taps) -> Codes:
        """The winners in some lines of one plane, shape (lines, X)."""
        below, above = codes[plane.below[0]], codes[plane.above[0]]
        near = below[lines.below]
        same = near == below[lines.above]
        same &= near == above[lines.below]
        same &= near == above[lines.above]
        found: Codes = near.take(columns.below, axis=1)
        known = found == near.take(columns.above, axis=1)
        known &= same.take(columns.below, axis=1)
        known &= same.take(columns.above, axis=1)
        line, column = np.nonzero(~known)
        if len(line):
            used, line = np.unique(line, return_inverse=True)
            found[~known] = self._compete(logits, plane, lines[used], line, columns[column])
        return found

    def _compete(self, logits: Logits, plane: Taps, lines: Taps, line: npt.NDArray[np.intp], columns: Taps) -> Codes:
        """The winners where logits must be blended: at places `columns` along X of the `line`-th of `lines`."""
        top, bottom = int(lines.below[0]), int(lines.above[-1]) + 1
        part = slice(top, bottom)
        lines = lines.moved(-top)
        points = columns.moved(line * logits.shape[-1])
        below, above, share = plane.below[0], plane.above[0], plane.share[0]
        low, high = logits.factors(below, part, 1 - share), logits.factors(above, part, share)

        def blended() -> Iterator[npt.NDArray[np.float32]]:
            for first in range(0, len(logits.sums), _SUMS_AT_ONCE):
                sums = logits.sums[first : first + _SUMS_AT_ONCE]
                blend = sums[:, below, part] * low
                if above != below:
                    blend += sums[:, above, part] * high
                blend = lines.apply(blend, 1)
                yield from points.apply(blend.reshape(len(blend), -1), 1)

        winner = Winner(self._labels, line.shape)
        winner.show_all(logits.heads(blended()))
        return winner.code


def _strips(shape: tuple[int, ...]) -> Iterator[tuple[int, slice]]:
    """Every plane of an array (Z, Y, X), cut along Y into parts of a handy size."""
    planes, lines, columns = shape
    step = max(_STRIP_VOXELS // columns, 1)
    return ((plane, slice(line, line + step)) for plane in range(planes) for line in range(0, lines, step))


def slabs_of(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Rows start:stop, cut into slabs of `step`."""
    return ((first, min(first + step, stop)) for first in range(start, stop, step))
