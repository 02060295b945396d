"""Uncertainty about labels on the grid of the image: from logits, box by box, or from stored probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from napari_nnunet_cpu.boxes import Bounds, slices, whole
from napari_nnunet_cpu.export.head_resampler import HeadResampler
from napari_nnunet_cpu.export.linear import slabs_of
from napari_nnunet_cpu.export.logits import LogitsOf
from napari_nnunet_cpu.export.scratch_array import ScratchArray
from napari_nnunet_cpu.export.uncertainty_measures import measure_of
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.prepare.geometry import Geometry

# Voxels of the image that a thread works on at a time, and arrays of that size that it holds.
_STRIP_VOXELS = 2**17
_ARRAYS = 10

# Logits of probabilities that are 0 or 1 in float32; the exponential of its negative is 0 there.
_SURE = np.float32(110)

Uncertainty = npt.NDArray[np.float32]


class UncertaintyExport:
    """Uncertainty about boxes of what was kept of the image, one head after the other.

    Uncertainty depends on the same voxels of the prepared image as the labels do, so that it is final with them.

    Parameters
    ----------
    kind : {"margin", "entropy", "disagreement"}
        Of uncertainty. Disagreement was measured before, and is given as the only head.
    model : TrainedModel
        Its labels and resampling.
    geometry : Geometry
        Between which spacings and shapes.
    threads : int
        That work at a time.

    Raises
    ------
    ModelError
        When the plans do not lead back to the image.
    """

    def __init__(self, kind: str, model: TrainedModel, geometry: Geometry, threads: int) -> None:
        self._kind = kind
        self._labels = model.labels
        self._resampled = HeadResampler(model, geometry)
        self._shape = geometry.cropped_shape
        self._threads = threads

    def export(self, logits: LogitsOf, kept: Uncertainty, box: Bounds) -> None:
        """Measure the uncertainty in a box of what was kept of the image.

        Parameters
        ----------
        logits : callable
            Gives the heads in a box of the prepared image.
        kept : numpy.ndarray
            Where the uncertainty goes: all that was kept, model's axes (Z, Y, X), float32.
        box : tuple of (int, int)
            Which of it.
        """

        def measure(piece: Bounds) -> None:
            part = logits(self._resampled.needed(piece))
            own = measure_of(self._kind, self._labels, tuple(stop - start for start, stop in piece))
            for head in part.means():
                own.show(self._resampled.apply(head, piece))
            kept[slices(piece)] = own.value()

        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(measure, self._pieces(box)):  # so that errors are heard
                pass

    @property
    def working_bytes(self) -> int:
        """Memory that is taken while uncertainty is measured, at most about."""
        piece = next(self._pieces(whole(self._shape)))
        sides = zip(piece, self._resampled.needed(piece), strict=True)
        voxels = prod(max(stop - start for start, stop in pair) for pair in sides)
        return 4 * _ARRAYS * voxels * (self._threads if self._resampled.in_parts else 1)

    def _pieces(self, box: Bounds) -> Iterator[Bounds]:
        """The box, cut along Z and Y into parts of a handy size; all at once where splines need the whole."""
        z, y, x = box
        lines = max(_STRIP_VOXELS // (x[1] - x[0]), 1) if self._resampled.in_parts else y[1] - y[0]
        rows = max(lines // (y[1] - y[0]), 1) if self._resampled.in_parts else z[1] - z[0]
        return ((slab, strip, x) for slab in slabs_of(*z, rows) for strip in slabs_of(*y, lines))


def uncertainty_of_probabilities(store: ScratchArray, labels: Labels, kind: str) -> Uncertainty:
    """Uncertainty about stored probabilities (heads, Z, Y, X): shape (Z, Y, X), made slab by slab.

    Parameters
    ----------
    store : ScratchArray
        Softmax, or of regions the sigmoid of each.
    labels : Labels
        What the heads mean.
    kind : {"margin", "entropy"}
        Of uncertainty.
    """
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
    """Logits that these probabilities of a head could be made of."""
    with np.errstate(divide="ignore"):
        found = np.log(probabilities) if labels.region_values is None else logit(probabilities)
    return np.clip(found, -_SURE, _SURE, out=found)
