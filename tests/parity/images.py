"""The images that the parity tests label: arrays like scans, and files of every format that nnU-Net reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import skimage.io
import tifffile
from random_model import smooth_image

Affine = Sequence[Sequence[float]]

NIFTI = (".nii", ".nii.gz")
ITK = (*NIFTI, ".nrrd", ".mha", ".gipl")


def scan(shape: Sequence[int], channels: int, seed: int) -> np.ndarray:
    """Smooth structures with some noise, zero at the rim: (C, Z, Y, X)."""
    return smooth_image(shape, seed, channels)


def brain(shape: Sequence[int], channels: int, seed: int) -> np.ndarray:
    """An ellipsoid off the middle, zero outside, as skull-stripped images are, and with a hole that cropping fills."""
    image = smooth_image(shape, seed, channels)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape], indexing="ij"))
    distance = sum(((axis - middle) / 0.75) ** 2 for axis, middle in zip(grid, (0.1, -0.15, 0.2), strict=True))
    image[:, (distance > 1) | (distance < 0.02)] = 0
    return image


def colours(shape: Sequence[int], channels: int, seed: int) -> np.ndarray:
    """Whole numbers from 0 to 255."""
    return np.clip(np.round(smooth_image(shape, seed, channels) / 8 + 127), 0, 255)


def deep_grey(shape: Sequence[int], channels: int, seed: int) -> np.ndarray:
    """Whole numbers from 0 to 65535."""
    return np.clip(np.round(smooth_image(shape, seed, channels) * 24 + 32000), 0, 65535)


LOOKS = {"scan": scan, "brain": brain, "colours": colours, "deep grey": deep_grey}


def affine_of(spacing_xyz: Sequence[float], turn: Any = None, origin: Sequence[float] = (-31.5, 12.25, 7.0)) -> Affine:
    """An affine of orthogonal axes: `turn` is a 3 x 3 rotation, with or without reflections."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else np.asarray(turn)) @ np.diag(spacing_xyz)
    affine[:3, 3] = origin
    return affine.tolist()


def rotation(axis: int, degrees: float) -> np.ndarray:
    """Rotation about one axis."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    a, b = [other for other in range(3) if other != axis]
    matrix[a, a] = matrix[b, b] = c
    matrix[a, b], matrix[b, a] = -s, s
    return matrix


def write_image(path: Path, image: np.ndarray, affine: Affine, planar: bool) -> None:
    """Write an image (C, Z, Y, X), of several channels only where the format has a place for them."""
    if path.name.endswith(NIFTI):
        array = image.transpose(3, 2, 1, 0)
        array = array[..., 0, 0] if planar else array[..., 0] if len(image) == 1 else array
        nifti = nib.Nifti1Image(array, np.array(affine))
        nifti.set_qform(np.array(affine))
        nib.save(nifti, path)
    elif path.name.endswith(ITK):
        matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.array(affine)  # ITK's world is LPS
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        volume = sitk.GetImageFromArray(image[0])
        volume.SetSpacing(spacing.tolist())
        volume.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
        volume.SetOrigin(matrix[:3, 3].tolist())
        sitk.WriteImage(volume, str(path), True)
    elif not planar:
        tifffile.imwrite(path, image[0], photometric="minisblack")
    else:
        pixels = image[:, 0].transpose(1, 2, 0).astype(np.uint8 if image.max() < 256 else np.uint16)
        skimage.io.imsave(path, pixels[..., 0] if len(image) == 1 else pixels, check_contrast=False)


def write_imagej_stack(path: Path, image: np.ndarray, spacing_mm: Sequence[float]) -> None:
    """Write one channel (1, Z, Y, X) with ImageJ's metadata, which nnU-Net's reader does not look at."""
    z, y, x = spacing_mm
    metadata = {"axes": "ZYX", "spacing": z, "unit": "mm"}
    tifffile.imwrite(path, image[0], imagej=True, resolution=(1 / x, 1 / y), metadata=metadata)


def write_ome_stack(path: Path, image: np.ndarray, spacing_mm: Sequence[float]) -> None:
    """Write one channel (1, Z, Y, X) with OME's metadata, which nnU-Net's reader does not look at either."""
    sizes = {f"PhysicalSize{axis}": length for axis, length in zip("ZYX", spacing_mm, strict=True)}
    units = {f"PhysicalSize{axis}Unit": "mm" for axis in "ZYX"}
    tifffile.imwrite(path, image[0], ome=True, photometric="minisblack", metadata={"axes": "ZYX"} | sizes | units)


def write_spacing(path: Path, spacing_mm: Sequence[float]) -> None:
    """The JSON file that nnU-Net's TIFF reader looks for: path without channel number and ending."""
    path.write_text(json.dumps({"spacing": list(spacing_mm)}))


def read_labels(path: Path) -> np.ndarray:
    """Labels from a file, (Z, Y, X)."""
    if path.name.endswith(ITK):
        try:
            labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        except RuntimeError:  # ITK refuses the skewed axes that nnU-Net's nibabel readers write
            labels = np.asarray(nib.load(path).dataobj).T
    else:
        labels = tifffile.imread(path) if path.suffix in (".tif", ".tiff") else skimage.io.imread(path)
    return labels if labels.ndim == 3 else labels[None]
