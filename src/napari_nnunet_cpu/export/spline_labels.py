"""Labels where logits are resampled by splines: these are clipped to the range of the whole head."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy.typing as npt

from napari_nnunet_cpu.boxes import Bounds, slices, whole
from napari_nnunet_cpu.export.logits import LogitsOf
from napari_nnunet_cpu.export.winner import Winner, label_values
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.prepare.geometry import Shape
from napari_nnunet_cpu.prepare.resample import Resampler


class WholeExport:
    """Labels from the logits of the whole image, one head at a time.

    Parameters
    ----------
    labels : Labels
        Of the model.
    resampler : Resampler
        From the prepared image to the spacing of the image.
    source : tuple of int
        Shape of the prepared image (Z, Y, X).
    shape : tuple of int
        Of what was kept of the image (Z, Y, X).
    """

    def __init__(self, labels: Labels, resampler: Resampler, source: Shape, shape: Shape) -> None:
        self._labels = labels
        self._resampler = resampler
        self._source = source
        self._shape = shape

    def pieces(self, box: Bounds) -> Iterator[Bounds]:
        """The box as it is, because every piece would cost as much as the whole."""
        return iter([box])

    @property
    def working_bytes(self) -> int:
        """Memory of a head on its way to the image's grid, and of who won there."""
        return 4 * prod(self._source) + 2 * 4 * max(prod(self._source), prod(self._shape)) + 8 * prod(self._shape)

    def needed(self, box: Bounds) -> Bounds:
        """All of the prepared image, whichever box is wanted."""
        return whole(self._source)

    def labels(self, logits: LogitsOf, box: Bounds) -> npt.NDArray[Any]:
        """The labels of a box of the kept image, as `LinearExport.labels` gives them."""
        heads = logits(self.needed(box)).means()
        winner = Winner(self._labels, tuple(stop - start for start, stop in box))
        winner.show_all(self._resampler.apply(head, self._shape)[slices(box)] for head in heads)
        result: npt.NDArray[Any] = label_values(self._labels)[winner.code]
        return result
