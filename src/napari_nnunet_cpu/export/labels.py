"""Labels from logits, box by box, so that memory does not grow with the number of classes.

Source: nnU-Net `inference/export_prediction.py`: logits are resampled to the image's spacing
first, the decision is taken there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy.typing as npt

from napari_nnunet_cpu.boxes import Bounds, slices
from napari_nnunet_cpu.export.head_resampler import resampler_to_image
from napari_nnunet_cpu.export.linear import LinearExport
from napari_nnunet_cpu.export.logits import LogitsOf
from napari_nnunet_cpu.export.spline_labels import WholeExport
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.prepare.geometry import Geometry


class LabelExport(Protocol):
    """Labels of boxes of what was kept of the image, model's axes."""

    def pieces(self, box: Bounds) -> Iterable[Bounds]:
        """The box, cut along the first axis into pieces of a size that fits memory."""

    def needed(self, box: Bounds) -> Bounds:
        """The box of the prepared image that the labels of a box depend on."""

    def labels(self, logits: LogitsOf, box: Bounds) -> npt.NDArray[Any]:
        """The labels of a box, shape (Z, Y, X); `logits` is asked for what is `needed`."""

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


def export_box(export: LabelExport, logits: LogitsOf, kept: npt.NDArray[Any], box: Bounds) -> None:
    """Make the labels of a box of what was kept of the image.

    Parameters
    ----------
    export : LabelExport
        How.
    logits : callable
        Gives the logits of a box of the prepared image.
    kept : numpy.ndarray
        Where the labels go: all that was kept, model's axes (Z, Y, X).
    box : tuple of (int, int)
        Which of them.
    """
    for piece in export.pieces(box):
        kept[slices(piece)] = export.labels(logits, piece)
