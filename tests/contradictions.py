"""NIfTI headers that state their geometry in several ways, as files of the wild do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

Change = Callable[[nib.Nifti1Header], None]


def _other_voxel_sizes(header: nib.Nifti1Header) -> None:
    header["pixdim"][1:4] *= (1.6, 1.0, 0.7)


def _other_qform(header: nib.Nifti1Header) -> None:
    turned = header.get_sform()[:, [1, 2, 0, 3]] * [-1, 1, 1, 1]
    sizes = header["pixdim"].copy()
    header.set_qform(turned, 1)
    header["pixdim"][1:4] = sizes[1:4]


def _no_forms(header: nib.Nifti1Header) -> None:
    header["qform_code"] = header["sform_code"] = 0


def _skewed_sform(header: nib.Nifti1Header) -> None:
    header.set_sform(header.get_sform() @ (np.eye(4) + np.eye(4, k=1) * [0, 0.4, 0, 0]), 1)


def _singular_sform(header: nib.Nifti1Header) -> None:
    header["srow_x"] = header["srow_y"] = header["srow_z"] = 0


def _long_quaternion(header: nib.Nifti1Header) -> None:
    """Of a half turn, whose length is 1 but for rounding."""
    header.set_qform(np.diag([*header["pixdim"][1:4] * [-1, -1, 1], 1.0]), 1)
    header["sform_code"] = 0
    header["quatern_d"] *= 1 + 4e-7


def _micrometres(header: nib.Nifti1Header) -> None:
    header.set_xyzt_units("micron")


def _unknown_unit(header: nib.Nifti1Header) -> None:
    header["xyzt_units"] = 7


def _no_numbers(header: nib.Nifti1Header) -> None:
    header["scl_inter"] = header["scl_slope"] = header["toffset"] = header["pixdim"][5] = np.nan


CONTRADICTIONS: dict[str, Change] = {
    "voxel sizes of another scale": _other_voxel_sizes,
    "forms at different places": _other_qform,
    "no forms": _no_forms,
    "skewed sform, and a qform": _skewed_sform,
    "singular sform, and a qform": _singular_sform,
    "quaternion too long": _long_quaternion,
    "micrometres": _micrometres,
    "unit that is none": _unknown_unit,
    "numbers that are none": _no_numbers,
}


def write_contradiction(path: Path, array: np.ndarray, affine: np.ndarray, kind: str) -> Path:
    """Write an array (x, y, z) to a .nii or .nii.gz file whose header contradicts itself."""
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 2)
    image.set_qform(affine, 1)
    header = image.header.copy()
    CONTRADICTIONS[kind](header)
    header["vox_offset"] = header.single_vox_offset
    with nib.openers.ImageOpener(path, "wb") as file:  # nibabel's images would mend the header
        file.write(header.binaryblock + bytes(4) + array.astype(header.get_data_dtype()).tobytes("F"))
    return path
