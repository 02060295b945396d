"""Labels from logits resampled by splines, which need whole heads because they are clipped to their range."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box, Triple
from napari_nnunet_cpu.export.logits import LogitsOf
from napari_nnunet_cpu.export.winner import Winner, label_values
from napari_nnunet_cpu.models import Labels
from napari_nnunet_cpu.prepare import Resampler


class SplineExport:
    """Makes labels from the logits of the whole image, one head at a time.

    `source` is the shape of the prepared image, `shape` that of the cropped image (Z, Y, X).
    """

    def __init__(self, labels: Labels, resampler: Resampler, source: Triple, shape: Triple) -> None:
        self._labels = labels
        self._resampler = resampler
        self._source = source
        self._shape = shape

    def pieces(self, box: Box) -> Iterator[Box]:
        """The box itself, because each piece would cost as much as the whole box."""
        return iter([box])

    @property
    def working_bytes(self) -> int:
        """Memory to resample one head, and for the winners."""
        return 4 * prod(self._source) + 2 * 4 * max(prod(self._source), prod(self._shape)) + 8 * prod(self._shape)

    def needed(self, box: Box) -> Box:
        """The whole prepared image, for any box."""
        return Box.whole(self._source)

    def labels(self, logits: LogitsOf, box: Box) -> npt.NDArray[Any]:
        """The labels in a box of the cropped image, like `LinearExport.labels`."""
        heads = logits(self.needed(box)).means()
        winner = Winner(self._labels, box.shape)
        winner.show_all(self._resampler.apply(head, self._shape)[box.slices] for head in heads)
        result: npt.NDArray[Any] = label_values(self._labels)[winner.code]
        return result
