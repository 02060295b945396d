"""Logits on the grid of the image, one head at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.prepare.geometry import Geometry
from napari_nnunet_cpu.prepare.resample import Resampler

# The logits of one head: a new array each time, which the caller may write to.
HeadLogits = Callable[[int], npt.NDArray[np.float32]]


def in_image(head_logits: HeadLogits, model: TrainedModel, geometry: Geometry) -> HeadLogits:
    """The logits of a head resampled to what was kept of the image, as the plans say.

    Parameters
    ----------
    head_logits : callable
        Gives the mean logits of one head, shape `geometry.shape`.
    model : TrainedModel
        Its resampling.
    geometry : Geometry
        Between which spacings and shapes.

    Returns
    -------
    callable
        Gives the logits of one head, shape `geometry.cropped_shape`.
    """
    configuration = model.configuration
    resampler = Resampler.from_plans(
        configuration.resampling_fn_probabilities,
        configuration.resampling_fn_probabilities_kwargs,
        geometry.target_spacing_mm,
        geometry.spacing_mm,
    )
    return lambda head: resampler.apply(head_logits(head), geometry.cropped_shape)
