"""The uncertainty of labels on the grid of the image: from logits, box by box, or from stored probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from napari_nnunet_cpu.boxes import Box, slabs_of
from napari_nnunet_cpu.export.head_resampler import HeadResampler
from napari_nnunet_cpu.export.logits import LogitsOf
from napari_nnunet_cpu.export.scratch_array import ScratchArray
from napari_nnunet_cpu.export.uncertainty_measures import measure_of
from napari_nnunet_cpu.export.workers import Workers
from napari_nnunet_cpu.models import Labels, TrainedModel
from napari_nnunet_cpu.prepare import Geometry

# Voxels of the image in a piece, and arrays of this size per thread.
_STRIP_VOXELS = 2**17
_ARRAYS = 10

# The logit for probabilities that are 1 in float32: exp(-110) is 0.
_CERTAIN = np.float32(110)

Uncertainty = npt.NDArray[np.float32]


class UncertaintyExport:
    """Measures the uncertainty in boxes of the cropped image, one head after the other.

    It depends on the same voxels of the prepared image as the labels, so both become final together. `kind` is
    "margin", "entropy" or "disagreement"; the passes have measured disagreement, which is the only head then.
    Raises `ModelError` if the plans resample images, but not logits.
    """

    def __init__(self, kind: str, model: TrainedModel, geometry: Geometry, threads: int) -> None:
        self._kind = kind
        self._labels = model.labels
        self._resampled = HeadResampler(model, geometry)
        self._shape = geometry.cropped_shape
        self._threads = threads
        self._workers = Workers(threads)

    def export(self, logits: LogitsOf, cropped: Uncertainty, box: Box) -> None:
        """Write the uncertainty in a box into that of the cropped image (Z, Y, X), model's axes, float32."""

        def measure(piece: Box) -> None:
            part = logits(self._resampled.needed(piece))
            measured = measure_of(self._kind, self._labels, piece.shape)
            for head in part.means():
                measured.show(self._resampled.apply(head, piece))
            cropped[piece.slices] = measured.value()

        self._workers.do(measure, self._pieces(box))

    @property
    def working_bytes(self) -> int:
        """Approximate peak memory of the measurement."""
        piece = next(self._pieces(Box.whole(self._shape)))
        voxels = prod(map(max, piece.shape, self._resampled.needed(piece).shape))
        return 4 * _ARRAYS * voxels * (self._threads if self._resampled.in_parts else 1)

    def _pieces(self, box: Box) -> Iterator[Box]:
        """Cut a box along Z and Y into pieces of suitable size; splines need the whole box at once."""
        rows, lines, columns = box.shape
        if self._resampled.in_parts:
            rows, lines = max(_STRIP_VOXELS // (lines * columns), 1), max(_STRIP_VOXELS // columns, 1)
        return (slab._replace(y=strip) for slab in box.slabs(rows) for strip in slabs_of(*box.y, lines))


def uncertainty_of_probabilities(store: ScratchArray, labels: Labels, kind: str) -> Uncertainty:
    """The uncertainty (Z, Y, X) of stored probabilities (heads, Z, Y, X), as margin or entropy, slab by slab."""
    _, length, *plane = store.array.shape
    uncertainty = np.empty((length, *plane), dtype=np.float32)
    for first, last in slabs_of(0, length, max(_STRIP_VOXELS // prod(plane), 1)):
        measure = measure_of(kind, labels, (last - first, *plane))
        for head in store.array:
            measure.show(_logits_of(head[first:last], labels))
        uncertainty[first:last] = measure.value()
        store.release()
    return uncertainty


def _logits_of(probabilities: Uncertainty, labels: Labels) -> Uncertainty:
    """Logits that give these probabilities of a head, up to a constant of all heads."""
    with np.errstate(divide="ignore"):
        found = np.log(probabilities) if labels.region_values is None else logit(probabilities)
    return np.clip(found, -_CERTAIN, _CERTAIN, out=found)
