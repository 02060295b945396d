"""Labels from logits, slab by slab, so that memory does not grow with the number of classes.

Source: nnU-Net `inference/export_prediction.py`: logits are resampled to the image's spacing
first, the decision is taken there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy.typing as npt

from napari_nnunet_cpu.export.linear import LinearExport
from napari_nnunet_cpu.export.logits import LogitRows
from napari_nnunet_cpu.export.resampled import resampler_to_image
from napari_nnunet_cpu.export.whole import WholeExport
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.prepare.geometry import Geometry


class LabelExport(Protocol):
    """Labels of a slab: rows of what was kept of the image, along the model's first axis."""

    def slabs(self, start: int, stop: int) -> Iterable[tuple[int, int]]:
        """Rows start:stop, slab by slab of a size that fits memory."""

    def rows_needed(self, start: int, stop: int) -> tuple[int, int]:
        """The rows first:last of the prepared image that rows start:stop depend on."""

    def labels(self, rows: LogitRows, start: int, stop: int) -> npt.NDArray[Any]:
        """The labels (stop - start, Y, X); `rows` is asked for `rows_needed`."""

    @property
    def working_bytes(self) -> int:
        """Memory that is taken while labels are made, at most about."""


def label_export(model: TrainedModel, geometry: Geometry, threads: int) -> LabelExport:
    """How labels are made of a model's logits, as its plans say.

    Parameters
    ----------
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
    resampler = resampler_to_image(model, geometry)
    source, shape = geometry.shape, geometry.cropped_shape
    taps = resampler.taps(source, shape)
    if taps is None:
        return WholeExport(model.labels, resampler, source, shape)
    return LinearExport(model.labels, taps, source, shape, threads)


def export_rows(export: LabelExport, rows: LogitRows, kept: npt.NDArray[Any], start: int, stop: int) -> None:
    """Make the labels of rows start:stop of what was kept of the image.

    Parameters
    ----------
    export : LabelExport
        How.
    rows : callable
        Gives the logits of rows first:last of the prepared image.
    kept : numpy.ndarray
        Where the labels go: all rows, model's axes (Z, Y, X).
    start, stop : int
        Which rows.
    """
    for first, last in export.slabs(start, stop):
        kept[first:last] = export.labels(rows, first, last)
