"""Labels where logits are resampled by splines: these are clipped to the range of the whole head."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy.typing as npt

from napari_nnunet_cpu.export.logits import LogitRows
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

    def slabs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """All rows at once, because every slab would cost as much as the whole."""
        return iter([(start, stop)])

    @property
    def working_bytes(self) -> int:
        """Memory of a head on its way to the image's grid, and of who won there."""
        return 4 * prod(self._source) + 2 * 4 * max(prod(self._source), prod(self._shape)) + 8 * prod(self._shape)

    def rows_needed(self, start: int, stop: int) -> tuple[int, int]:
        """All rows of the prepared image, whichever rows start:stop are wanted."""
        return 0, self._source[0]

    def labels(self, rows: LogitRows, start: int, stop: int) -> npt.NDArray[Any]:
        """The labels of rows start:stop of the kept image, as `LinearExport.labels` gives them."""
        logits = rows(*self.rows_needed(start, stop))
        winner = Winner(self._labels, (stop - start, *self._shape[1:]))
        for head in range(self._labels.heads):
            winner.show(head, self._resampler.apply(logits.mean(head), self._shape)[start:stop])
        result: npt.NDArray[Any] = label_values(self._labels)[winner.code]
        return result
