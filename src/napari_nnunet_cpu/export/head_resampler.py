"""From the prepared image's grid to that of the image, as the plans say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Bounds, slices, whole
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.prepare.geometry import Geometry
from napari_nnunet_cpu.prepare.resample import Resampler

Head = npt.NDArray[np.float32]


def resampler_to_image(model: TrainedModel, geometry: Geometry) -> Resampler:
    """What resamples logits from `geometry.shape` to `geometry.cropped_shape`.

    Raises
    ------
    ModelError
        When the plans resample images, but not logits.
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
    """Resamples one head to boxes of what was kept of the image.

    Parameters
    ----------
    model : TrainedModel
        Its resampling.
    geometry : Geometry
        Between which spacings and shapes.

    Attributes
    ----------
    in_parts : bool
        Whether a box depends on a part of the prepared image; splines need the whole.

    Raises
    ------
    ModelError
        When the plans do not lead back to the image.
    """

    def __init__(self, model: TrainedModel, geometry: Geometry) -> None:
        self._resampler = resampler_to_image(model, geometry)
        self._source, self._shape = geometry.shape, geometry.cropped_shape
        self._taps = self._resampler.taps(self._source, self._shape)
        self.in_parts = self._taps is not None

    def needed(self, box: Bounds) -> Bounds:
        """The box of the prepared image that a box of the kept image depends on."""
        if self._taps is None:
            return whole(self._source)
        z, y, x = (taps.span(*side) for taps, side in zip(self._taps, box, strict=True))
        return z, y, x

    def apply(self, head: Head, box: Bounds) -> Head:
        """One head, of what is `needed`, on the grid of the box: shape (Z, Y, X)."""
        if self._taps is None:
            return self._resampler.apply(head, self._shape)[slices(box)]
        for axis, (taps, side, (first, _)) in enumerate(zip(self._taps, box, self.needed(box), strict=True)):
            head = taps[slice(*side)].moved(-first).apply(head, axis)
        return head
