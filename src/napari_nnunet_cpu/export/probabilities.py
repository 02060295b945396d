"""Probabilities from logits, and labels from probabilities: for those who want them, and for ensembles.

Sources: nnU-Net `inference/export_prediction.py`, `utilities/label_handling/label_handling.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from napari_nnunet_cpu.export.linear import slabs_of
from napari_nnunet_cpu.export.logits import LogitRows
from napari_nnunet_cpu.export.resampled import resampler_to_image
from napari_nnunet_cpu.export.store import Store
from napari_nnunet_cpu.export.winner import Winner, label_values
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.prepare.geometry import Geometry

# How many are worked on at a time: 16 MB.
_SLAB_PROBABILITIES = 2**22

Probabilities = npt.NDArray[np.float32]


class ProbabilityExport:
    """Labels by way of the probabilities, which stay: softmax over the heads, or for regions the sigmoid of each.

    Parameters
    ----------
    model : TrainedModel
        Its labels and resampling.
    geometry : Geometry
        The way back to the case.

    Raises
    ------
    ModelError
        When the plans do not lead back to the image.
    """

    def __init__(self, model: TrainedModel, geometry: Geometry) -> None:
        self._labels = model.labels
        self._resampler = resampler_to_image(model, geometry)
        self._source, self._shape = geometry.shape, geometry.cropped_shape
        self._taps = self._resampler.taps(self._source, self._shape)
        self._geometry = geometry

    def keep_in(self, store: Store) -> None:
        """Say where the probabilities go: shape (heads, Z, Y, X) on the grid of the case, before the first are made.

        What cropping took away is certain background: 1 for the first head, or no region at all.
        """
        self._store = store
        if self._labels.region_values is None:
            store.array[0] = 1
            store.release()
        self._inside = [self._geometry.kept(head) for head in store.array]

    def slabs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Rows start:stop of the kept image, slab by slab; all at once where splines need the whole."""
        return slabs_of(start, stop, self._step if self._taps else stop - start)

    def rows_needed(self, start: int, stop: int) -> tuple[int, int]:
        """The rows first:last of the prepared image that rows start:stop of the kept image depend on."""
        if self._taps is None:
            return 0, self._source[0]
        return self._taps[0].span(start, stop)

    def labels(self, rows: LogitRows, start: int, stop: int) -> npt.NDArray[Any]:
        """The labels of rows start:stop of the kept image, as `LinearExport.labels` gives them."""
        first, last = self.rows_needed(start, stop)
        logits = rows(first, last)
        for head, part in enumerate(self._inside):
            part[start:stop] = self._resampled(logits.mean(head), start, stop)
            self._store.release()
        result = np.empty((stop - start, *self._shape[1:]), dtype=self._labels.dtype)
        for low, high in slabs_of(start, stop, self._step):
            slab = np.empty((self._labels.heads, high - low, *self._shape[1:]), dtype=np.float32)
            for values, part in zip(slab, self._inside, strict=True):
                values[...] = part[low:high]
                self._store.release()
            self._normalize(slab)
            result[low - start : high - start] = labels_of_probabilities(slab, self._labels)
            for values, part in zip(slab, self._inside, strict=True):
                part[low:high] = values
                self._store.release()
        return result

    @property
    def working_bytes(self) -> int:
        """Memory of a slab of all heads, or of a head on its way to the image's grid."""
        voxels = prod(self._shape[1:])
        slab = 4 * (self._labels.heads + 4) * min(self._step, self._shape[0]) * voxels
        whole = 0 if self._taps else 4 * 3 * max(prod(self._source), prod(self._shape))
        return max(slab, whole) + np.dtype(self._labels.dtype).itemsize * self._shape[0] * voxels

    @property
    def _step(self) -> int:
        """Rows of a slab."""
        return max(_SLAB_PROBABILITIES // (self._labels.heads * prod(self._shape[1:])), 1)

    def _resampled(self, logits: Probabilities, start: int, stop: int) -> Probabilities:
        """The logits of one head and of the rows needed, on the kept image's grid: (stop - start, Y, X)."""
        if self._taps is None:
            return self._resampler.apply(logits, self._shape)[start:stop]
        rows, lines, columns = self._taps
        rows = rows[start:stop].moved(-self.rows_needed(start, stop)[0])
        for axis, taps in enumerate((rows, lines, columns)):
            logits = taps.apply(logits, axis)
        return logits

    def _normalize(self, slab: Probabilities) -> None:
        """Logits (heads, Z, Y, X) to probabilities, in place."""
        if self._labels.region_values is not None:
            expit(slab, out=slab)
            return
        slab -= slab.max(axis=0)
        np.exp(slab, out=slab)
        slab /= slab.sum(axis=0)


def labels_of_probabilities(probabilities: Probabilities, labels: Labels) -> npt.NDArray[Any]:
    """The labels that probabilities (heads, Z, Y, X) stand for: shape (Z, Y, X), uint8 or uint16."""
    if labels.region_values is None:
        winner = Winner(labels, probabilities.shape[1:])
        for number, head in enumerate(probabilities):  # argmax would copy all of them
            winner.show(number, head)
        found: npt.NDArray[Any] = label_values(labels)[winner.code]
        return found
    result = np.zeros(probabilities.shape[1:], dtype=labels.dtype)
    for region, value in zip(probabilities, labels.region_values, strict=True):
        result[region > 0.5] = value
    return result


def labels_of_store(store: Store, labels: Labels) -> npt.NDArray[Any]:
    """The labels of stored probabilities (heads, Z, Y, X), made slab by slab: shape (Z, Y, X)."""
    heads, length, *plane = store.array.shape
    result = np.empty((length, *plane), dtype=labels.dtype)
    for first, last in slabs_of(0, length, max(_SLAB_PROBABILITIES // (heads * prod(plane)), 1)):
        result[first:last] = labels_of_probabilities(store.array[:, first:last], labels)
        store.release()
    return result
