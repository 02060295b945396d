"""Labels from logits, one head at a time, so that memory does not grow with the number of classes.

Source: nnU-Net `inference/export_prediction.py`: logits are resampled to the image's spacing
first, the decision is taken there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.export.resampled import HeadLogits, in_image
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.prepare.geometry import Geometry


def export_labels(head_logits: HeadLogits, model: TrainedModel, geometry: Geometry) -> npt.NDArray[Any]:
    """The labels of a case.

    Parameters
    ----------
    head_logits : callable
        Gives the mean logits of one head, shape `geometry.shape`, in an array that is then ours.
    model : TrainedModel
        Its labels and resampling.
    geometry : Geometry
        The way back to the case.

    Returns
    -------
    numpy.ndarray
        Shape of the case (Z, Y, X), uint8 or uint16.
    """
    labels = model.labels
    resampled = in_image(head_logits, model, geometry)
    result = np.zeros(geometry.cropped_shape, dtype=labels.dtype)
    if labels.region_values is None:
        best = resampled(0)
        for head in range(1, labels.heads):
            logits = resampled(head)
            # Strictly greater: of equal heads the first wins, as with argmax.
            better = logits > best
            result[better] = head
            np.maximum(best, logits, out=best)
    else:
        for head, value in enumerate(labels.region_values):
            # The sigmoid exceeds one half where the logit is positive; later regions paint over earlier ones.
            result[resampled(head) > 0] = value
    return geometry.place(result)
