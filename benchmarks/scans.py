"""Make images that look like scans: compact organs of even intensity, texture and noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

_ORGANS = 6
_ORGAN_MM = 40.0  # distance of the random values between which an organ's shape is interpolated
_TEXTURE_MM = 12.0
_NOISE = 25.0


def scan(shape: Sequence[int], spacing_mm: Sequence[float], seed: int) -> npt.NDArray[np.int16]:
    """An image of organs: thresholded smooth fields, each with its own intensity, over a texture, with noise.

    `shape` and the result are (Z, Y, X); a seed always gives the same image.
    """
    rng = np.random.default_rng(seed)
    image = 60 * _smooth_field(shape, spacing_mm, _TEXTURE_MM, rng)
    for intensity in rng.permutation(np.linspace(-400, 400, _ORGANS)):
        image[_smooth_field(shape, spacing_mm, _ORGAN_MM, rng) > 0.5] += intensity
    image += _NOISE * rng.standard_normal(image.shape, dtype=np.float32)
    return np.rint(image).astype(np.int16)


def write_scan(path: Path, shape: Sequence[int], spacing_mm: Sequence[float], seed: int) -> Path:
    """Write the image of `scan` as NIfTI."""
    z, y, x = spacing_mm
    nib.save(nib.Nifti1Image(scan(shape, spacing_mm, seed).T, np.diag([x, y, z, 1.0])), path)
    return path


def _smooth_field(
    shape: Sequence[int], spacing_mm: Sequence[float], distance_mm: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Random values of unit variance every `distance_mm`, interpolated in between: shape (Z, Y, X)."""
    import torch

    coarse = [round(n * mm / distance_mm) + 2 for n, mm in zip(shape, spacing_mm, strict=True)]
    values = torch.from_numpy(rng.standard_normal(coarse, dtype=np.float32))
    field = torch.nn.functional.interpolate(values[None, None], tuple(shape), mode="trilinear", align_corners=True)
    result: npt.NDArray[np.float32] = field[0, 0].numpy()
    return result
