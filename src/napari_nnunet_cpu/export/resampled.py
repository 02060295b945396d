"""From the prepared image's grid to that of the image, as the plans say."""

from __future__ import annotations

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.prepare.geometry import Geometry
from napari_nnunet_cpu.prepare.resample import Resampler


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
