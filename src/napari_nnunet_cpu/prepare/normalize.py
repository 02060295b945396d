"""The five normalization schemes of nnU-Net.

Source: `preprocessing/normalization/default_normalization_schemes.py`. All compute in
float32, in place, on one cropped channel (Z, Y, X).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.models import Intensities, Normalization

# Avoids division by zero for constant images, as in nnU-Net.
_MIN_DIVISOR = 1e-8

Channel = npt.NDArray[np.float32]


def normalize(
    channel: Channel,
    scheme: Normalization,
    mask: npt.NDArray[np.bool_] | None,
    statistics: Intensities | None,
) -> None:
    """Normalize a channel (Z, Y, X) in place.

    With a `mask`, z-scores use only its voxels. `statistics` of the training images are needed for
    CTNormalization. Raises `CaseError` if RGBTo01Normalization gets values outside 0 to 255.
    """
    if scheme == "ZScoreNormalization":
        _z_score(channel, mask)
    elif scheme == "CTNormalization" and statistics is not None:
        np.clip(channel, statistics.percentile_00_5, statistics.percentile_99_5, out=channel)
        channel -= statistics.mean
        channel /= max(statistics.std, _MIN_DIVISOR)
    elif scheme == "RescaleTo01Normalization":
        channel -= channel.min()
        channel /= max(channel.max(), _MIN_DIVISOR)
    elif scheme == "RGBTo01Normalization":
        low, high = channel.min(), channel.max()
        if low < 0 or high > 255:
            raise CaseError(f"the model expects colours from 0 to 255, found {low:g} to {high:g}")
        channel /= 255.0


def _z_score(channel: Channel, mask: npt.NDArray[np.bool_] | None) -> None:
    if mask is None:
        mean, std = channel.mean(), channel.std()
        channel -= mean
        channel /= max(std, _MIN_DIVISOR)
    elif mask.any():
        inside = channel[mask]
        mean, std = inside.mean(), inside.std()
        inside -= mean
        inside /= max(std, _MIN_DIVISOR)
        channel[mask] = inside
