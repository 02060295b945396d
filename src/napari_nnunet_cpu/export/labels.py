"""Labels from logits, slab by slab, so that memory does not grow with the number of classes.

Source: nnU-Net `inference/export_prediction.py`: logits are resampled to the image's spacing
first, the decision is taken there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.export.linear import LinearExport
from napari_nnunet_cpu.export.logits import LogitRows
from napari_nnunet_cpu.export.resampled import resampler_to_image
from napari_nnunet_cpu.export.whole import WholeExport
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.prepare.geometry import Geometry


class LabelExport(Protocol):
    """Labels of a slab: rows of what was kept of the image, along the model's first axis."""

    def slabs(self) -> Iterable[tuple[int, int]]:
        """All rows start:stop, slab by slab of a size that fits memory."""

    def rows_needed(self, start: int, stop: int) -> tuple[int, int]:
        """The rows first:last of the prepared image that rows start:stop depend on."""

    def labels(self, rows: LogitRows, start: int, stop: int) -> npt.NDArray[Any]:
        """The labels (stop - start, Y, X); `rows` is asked for `rows_needed`."""


def label_export(model: TrainedModel, geometry: Geometry) -> LabelExport:
    """How labels are made of a model's logits, as its plans say.

    Parameters
    ----------
    model : TrainedModel
        Its labels and resampling.
    geometry : Geometry
        Between which spacings and shapes.

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
    return LinearExport(model.labels, taps, source, shape)


def export_labels(rows: LogitRows, model: TrainedModel, geometry: Geometry) -> npt.NDArray[Any]:
    """The labels of a case.

    Parameters
    ----------
    rows : callable
        Gives the logits of rows first:last of the prepared image.
    model : TrainedModel
        Its labels and resampling.
    geometry : Geometry
        The way back to the case.

    Returns
    -------
    numpy.ndarray
        Shape of the case (Z, Y, X), uint8 or uint16; 0 where cropping took something away.

    Raises
    ------
    ModelError
        When the plans do not lead back to the image.
    """
    export = label_export(model, geometry)
    result = np.zeros(geometry.case_shape, dtype=model.labels.dtype)
    kept = geometry.kept(result)
    for start, stop in export.slabs():
        kept[start:stop] = export.labels(rows, start, stop)
    return result
