"""Resample heads from the grid of the prepared image to that of the cropped image, by the plans."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.prepare import Geometry, Resampler

Head = npt.NDArray[np.float32]


def resampler_to_image(model: TrainedModel, geometry: Geometry) -> Resampler:
    """The resampler of logits from `geometry.shape` to `geometry.cropped_shape`.

    Raises `ModelError` if the plans resample images, but not logits.
    """
    configuration = model.configuration
    function = configuration.resampling_fn_probabilities
    if function == "no_resampling_hack" and geometry.shape != geometry.cropped_shape:
        raise ModelError(
            f"{model.folder.name}: the plans resample images (here {geometry.cropped_shape} to {geometry.shape} "
            f"voxels), but not logits ({function}), so that labels would not fit the image"
        )
    return Resampler.from_plans(
        function,
        configuration.resampling_fn_probabilities_kwargs,
        geometry.target_spacing_mm,
        geometry.spacing_mm,
    )


class HeadResampler:
    """Resamples one head to boxes of the cropped image.

    `in_parts` says whether a box depends only on a part of the prepared image; splines need the whole head.
    Raises `ModelError` if the plans resample images, but not logits.
    """

    def __init__(self, model: TrainedModel, geometry: Geometry) -> None:
        self._resampler = resampler_to_image(model, geometry)
        self._source, self._shape = geometry.shape, geometry.cropped_shape
        self._weights = self._resampler.axis_weights(self._source, self._shape)
        self.in_parts = self._weights is not None

    def needed(self, box: Box) -> Box:
        """The box of the prepared image that a box of the cropped image depends on."""
        if self._weights is None:
            return Box.whole(self._source)
        return self._weights.needed(box)

    def apply(self, head: Head, box: Box) -> Head:
        """Resample a head, given on the `needed` box, to a box of the cropped image: shape (Z, Y, X)."""
        if self._weights is None:
            return self._resampler.apply(head, self._shape)[box.slices]
        for axis, weights in enumerate(self._weights.of_box(box)):
            head = weights.apply(head, axis)
        return head
