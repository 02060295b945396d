"""Labels from linearly resampled logits, box by box, with logits blended only at boundaries.

A linear blend lies between the values of its voxels. So if all (up to eight) voxels around a voxel of the image
have the same winner, it is the winner there, too. This is the case for most voxels. Only for the others are all
heads blended and compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box, Triple
from napari_nnunet_cpu.export.logits import Logits, LogitsOf
from napari_nnunet_cpu.export.winner import Winner, label_values
from napari_nnunet_cpu.export.workers import Workers
from napari_nnunet_cpu.models import Labels
from napari_nnunet_cpu.prepare import AxisWeights, VolumeWeights

# Sizes of pieces: logits in a slab (256 MB), and voxels and heads that fit into the cache of a core.
SLAB_LOGITS = 2**26
_STRIP_VOXELS = 2**14
_SUMS_AT_ONCE = 4

Codes = npt.NDArray[Any]


class LinearExport:
    """Makes labels in boxes of the cropped image, from the logits of neighbouring voxels of the prepared image.

    `source` is the shape of the prepared image, `shape` that of the cropped image (Z, Y, X).
    """

    def __init__(self, labels: Labels, weights: VolumeWeights, source: Triple, shape: Triple, threads: int) -> None:
        self._labels = labels
        self._threads = threads
        self._workers = Workers(threads)
        self._values = label_values(labels)
        self._weights = weights
        self._source = source
        self._shape = shape

    def pieces(self, box: Box) -> Iterator[Box]:
        """Cut a box into slabs along the first axis."""
        return box.slabs(self._step)

    @property
    def working_bytes(self) -> int:
        """Memory for the winners in a slab, its labels, and the blended logits of all threads."""
        step = min(self._step, self._shape[0])
        plane, cropped = prod(self._source[1:]), prod(self._shape[1:])
        codes = np.min_scalar_type(self._labels.heads).itemsize * (step * self._source[0] // self._shape[0] + 2) * plane
        strips = self._threads * 8 * 4 * _SUMS_AT_ONCE * min(_STRIP_VOXELS, max(plane, cropped))
        return codes + self._values.itemsize * step * cropped + strips

    def needed(self, box: Box) -> Box:
        """The box of the prepared image that the labels in a box depend on."""
        return self._weights.needed(box)

    def labels(self, logits: LogitsOf, box: Box) -> npt.NDArray[Any]:
        """The labels in a box of the cropped image, shape (Z, Y, X), uint8 or uint16.

        `logits` gives those of the `needed` box.
        """
        part = logits(self.needed(box))
        codes = np.empty(part.shape, dtype=np.min_scalar_type(self._labels.heads))
        result = np.empty(box.shape, dtype=self._values.dtype)
        planes, lines, columns = self._weights.of_box(box)

        def decide(place: tuple[int, slice]) -> None:
            winner = Winner(self._labels, codes[place].shape)
            winner.show_all(part.heads(part.sums[:, *place]))
            codes[place] = winner.code

        def export(place: tuple[int, slice]) -> None:
            row, strip = place
            found = self._strip(part, codes, planes[np.array([row])], lines[strip], columns)
            self._values.take(found, out=result[place], mode="clip")

        self._workers.do(decide, _strips(codes.shape))
        self._workers.do(export, _strips(result.shape))
        part.release()
        return result

    @property
    def _step(self) -> int:
        """Number of rows in a slab."""
        rows, y, x = self._source
        return max(SLAB_LOGITS * self._shape[0] // (self._labels.heads * rows * y * x), 1)

    def _strip(
        self, logits: Logits, codes: Codes, plane: AxisWeights, lines: AxisWeights, columns: AxisWeights
    ) -> Codes:
        """The winners in some lines of one plane of the image, shape (lines, X)."""
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
            found[~known] = self._blended_winners(logits, plane, lines[used], line, columns[column])
        return found

    def _blended_winners(
        self, logits: Logits, plane: AxisWeights, lines: AxisWeights, line: npt.NDArray[np.intp], columns: AxisWeights
    ) -> Codes:
        """The winners among blended logits, at points `columns` along X of the `line`-th of `lines`: (points,)."""
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
    """Cut every plane of an array (Z, Y, X) along Y into strips of suitable size."""
    planes, lines, columns = shape
    step = max(_STRIP_VOXELS // columns, 1)
    return ((plane, slice(line, line + step)) for plane in range(planes) for line in range(0, lines, step))
