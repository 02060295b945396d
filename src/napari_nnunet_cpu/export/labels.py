"""Labels from logits, box by box, so that memory does not grow with the number of classes.

Source: nnU-Net `inference/export_prediction.py`. Logits are first resampled to the spacing of the
image, and the labels are decided there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.export.head_resampler import resampler_to_image
from napari_nnunet_cpu.export.linear import LinearExport
from napari_nnunet_cpu.export.logits import LogitsOf
from napari_nnunet_cpu.export.spline_labels import SplineExport
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.prepare import Geometry


class LabelExport(Protocol):
    """Makes the labels in boxes of the cropped image, model's axes."""

    def pieces(self, box: Box) -> Iterable[Box]:
        """Cut a box along the first axis into pieces that fit into memory."""

    def needed(self, box: Box) -> Box:
        """The box of the prepared image that the labels in a box depend on."""

    def labels(self, logits: LogitsOf, box: Box) -> npt.NDArray[Any]:
        """The labels in a box, shape (Z, Y, X), from the `logits` of the `needed` box."""

    @property
    def working_bytes(self) -> int:
        """Approximate peak memory of an export."""


def label_export(model: TrainedModel, geometry: Geometry, threads: int) -> LabelExport:
    """The label export for the logits of a model, by its plans.

    Raises `ModelError` if the plans resample images, but not logits.
    """
    resampler = resampler_to_image(model, geometry)
    source, shape = geometry.shape, geometry.cropped_shape
    weights = resampler.axis_weights(source, shape)
    if weights is None:
        return SplineExport(model.labels, resampler, source, shape)
    return LinearExport(model.labels, weights, source, shape, threads)


def export_box(export: LabelExport, logits: LogitsOf, cropped: npt.NDArray[Any], box: Box) -> None:
    """Write the labels of a box into the labels of the cropped image (Z, Y, X), model's axes."""
    for piece in export.pieces(box):
        cropped[piece.slices] = export.labels(logits, piece)
