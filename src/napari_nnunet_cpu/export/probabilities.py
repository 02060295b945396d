"""Probabilities from logits, and labels from probabilities: for those who want them, and for ensembles.

Sources: nnU-Net `inference/export_prediction.py`, `utilities/label_handling/label_handling.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from napari_nnunet_cpu.export.logits import LogitRows
from napari_nnunet_cpu.export.resampled import resampler_to_image
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.prepare.geometry import Geometry

Probabilities = npt.NDArray[np.float32]


def export_probabilities(rows: LogitRows, model: TrainedModel, geometry: Geometry) -> Probabilities:
    """The probabilities of a case: softmax over the heads, or for regions the sigmoid of each.

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
        Shape (heads, Z, Y, X) on the grid of the case, float32. What cropping took away is certain
        background: 1 for the first head, or no region at all.

    Raises
    ------
    ModelError
        When the plans do not lead back to the image.
    """
    resampler = resampler_to_image(model, geometry)
    logits = rows(0, geometry.shape[0])
    regions = model.labels.region_values is not None
    result = np.zeros((model.labels.heads, *geometry.case_shape), dtype=np.float32)
    if not regions:
        result[0] = 1
    inside = [geometry.kept(head) for head in result]  # views: nothing of this size is held twice
    for head, part in enumerate(inside):
        part[...] = resampler.apply(logits.mean(head), geometry.cropped_shape)
    if regions:
        for part in inside:
            expit(part, out=part)
        return result
    largest = inside[0].copy()
    for part in inside[1:]:
        np.maximum(largest, part, out=largest)
    total = np.zeros_like(largest)
    for part in inside:
        np.exp(part - largest, out=part)
        total += part
    for part in inside:
        part /= total
    return result


def labels_of_probabilities(probabilities: Probabilities, labels: Labels) -> npt.NDArray[Any]:
    """The labels that probabilities (heads, Z, Y, X) stand for: shape (Z, Y, X), uint8 or uint16."""
    if labels.region_values is None:
        heads: npt.NDArray[Any] = probabilities.argmax(axis=0).astype(labels.dtype)
        return heads
    result = np.zeros(probabilities.shape[1:], dtype=labels.dtype)
    for region, value in zip(probabilities, labels.region_values, strict=True):
        result[region > 0.5] = value
    return result
