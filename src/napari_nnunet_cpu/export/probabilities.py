"""Probabilities from logits, and labels from probabilities: for users who want them, and for ensembles.

Sources: nnU-Net `inference/export_prediction.py`, `utilities/label_handling/label_handling.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from napari_nnunet_cpu.boxes import Box, slabs_of
from napari_nnunet_cpu.export.head_resampler import HeadResampler
from napari_nnunet_cpu.export.logits import LogitsOf
from napari_nnunet_cpu.export.scratch_array import ScratchArray
from napari_nnunet_cpu.export.winner import Winner, label_values
from napari_nnunet_cpu.models import Labels, TrainedModel
from napari_nnunet_cpu.prepare import Geometry

# Probabilities in a slab: 16 MB.
_SLAB_PROBABILITIES = 2**22

Probabilities = npt.NDArray[np.float32]


class ProbabilityExport:
    """Labels by way of the probabilities, which stay: softmax over the heads, or for regions the sigmoid of each.

    `store` takes the probabilities: shape (heads, Z, Y, X) on the grid of the case. Without it, an export can only be
    planned. Raises `ModelError` if the plans resample images, but not logits.
    """

    def __init__(self, model: TrainedModel, geometry: Geometry, store: ScratchArray | None = None) -> None:
        self._labels = model.labels
        self._resampled = HeadResampler(model, geometry)
        self._source, self._shape = geometry.shape, geometry.cropped_shape
        if store is not None:
            self._store = store
            if self._labels.region_values is None:  # around the cropped image, background is certain
                store.array[0] = 1
                store.release()
            self._inside = [geometry.crop(head) for head in store.array]

    def pieces(self, box: Box) -> Iterator[Box]:
        """Cut a box into slabs along the first axis; splines need the whole box at once."""
        return box.slabs(self._step if self._resampled.in_parts else box.shape[0])

    def needed(self, box: Box) -> Box:
        """The box of the prepared image that the labels in a box depend on."""
        return self._resampled.needed(box)

    def labels(self, logits: LogitsOf, box: Box) -> npt.NDArray[Any]:
        """The labels in a box of the cropped image, like `LinearExport.labels`."""
        heads = logits(self.needed(box)).means()
        for head, inside in zip(heads, self._inside, strict=True):
            inside[box.slices] = self._resampled.apply(head, box)
            self._store.release()
        result = np.empty(box.shape, dtype=self._labels.dtype)
        for part in box.slabs(self._step):
            slab = np.empty((self._labels.heads, *part.shape), dtype=np.float32)
            for values, inside in zip(slab, self._inside, strict=True):
                values[...] = inside[part.slices]
                self._store.release()
            normalize(slab, self._labels)
            result[part.seen_from(box.start).slices] = labels_of_probabilities(slab, self._labels)
            for values, inside in zip(slab, self._inside, strict=True):
                inside[part.slices] = values
                self._store.release()
        return result

    @property
    def working_bytes(self) -> int:
        """Memory for all heads of a slab, or to resample one whole head."""
        voxels = prod(self._shape[1:])
        slab = 4 * (self._labels.heads + 4) * min(self._step, self._shape[0]) * voxels
        whole = 0 if self._resampled.in_parts else 4 * 3 * max(prod(self._source), prod(self._shape))
        return max(slab, whole) + np.dtype(self._labels.dtype).itemsize * self._shape[0] * voxels

    @property
    def _step(self) -> int:
        """Number of rows in a slab."""
        return max(_SLAB_PROBABILITIES // (self._labels.heads * prod(self._shape[1:])), 1)


def normalize(logits: Probabilities, labels: Labels) -> None:
    """Turn logits (heads, ...) into probabilities, in place."""
    if labels.region_values is not None:
        expit(logits, out=logits)
        return
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)


def labels_of_probabilities(probabilities: Probabilities, labels: Labels) -> npt.NDArray[Any]:
    """The labels (Z, Y, X), uint8 or uint16, with the highest probabilities (heads, Z, Y, X)."""
    if labels.region_values is None:
        winner = Winner(labels, probabilities.shape[1:])
        winner.show_all(probabilities)  # because argmax would copy all of them
        found: npt.NDArray[Any] = label_values(labels)[winner.code]
        return found
    result = np.zeros(probabilities.shape[1:], dtype=labels.dtype)
    for region, value in zip(probabilities, labels.region_values, strict=True):
        result[region > 0.5] = value
    return result


def labels_of_store(store: ScratchArray, labels: Labels) -> npt.NDArray[Any]:
    """The labels (Z, Y, X) of stored probabilities (heads, Z, Y, X), computed slab by slab."""
    heads, length, *plane = store.array.shape
    result = np.empty((length, *plane), dtype=labels.dtype)
    for first, last in slabs_of(0, length, max(_SLAB_PROBABILITIES // (heads * prod(plane)), 1)):
        result[first:last] = labels_of_probabilities(store.array[:, first:last], labels)
        store.release()
    return result
