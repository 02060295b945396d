"""NIfTI files in and out, geometry kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases.case import Case, planar_spacing
from napari_nnunet_cpu.cases.claims import DEFLATE, UNCOMPRESSED, check_claim
from napari_nnunet_cpu.cases.decompressed import Decompressed, decompressed
from napari_nnunet_cpu.errors import CaseError, first_line

ENDINGS = (".nii", ".nii.gz")

# Lengths are millimetres unless the header says otherwise; ITK converts these too.
_TO_MM = {"micron": 1e-3, "meter": 1e3}


def read_nifti(path: Path, name: str) -> Case:
    """The image in a NIfTI file.

    Parameters
    ----------
    path : Path
        A 2D (x, y), 3D (x, y, z) or 4D (x, y, z, channel) file.
    name : str
        What to call it.

    Returns
    -------
    Case
        Channels (C, Z, Y, X): the file's array with its axes reversed, as nnU-Net's readers give it.

    Raises
    ------
    CaseError
        When the file can't be read or has another number of axes.
    """
    try:
        with decompressed(path) as file:
            header = _header(file, path)
            voxel_bytes = math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
            check_claim(path, voxel_bytes, DEFLATE if isinstance(file, Decompressed) else UNCOMPRESSED)
            array = np.asanyarray(nib.arrayproxy.ArrayProxy(file, header))
            unit = header.get_xyzt_units()[0]
            best_affine = header.get_best_affine()
    except CaseError:
        raise
    except Exception as error:  # noqa: BLE001  # a damaged header can make nibabel raise anything
        raise CaseError(f"{path} can't be read as NIfTI: {first_line(error)}") from error
    if array.ndim not in (2, 3, 4):
        raise CaseError(f"{path} has {array.ndim} axes {array.shape}; a NIfTI image of 2, 3 or 4 axes is needed")
    scale = _TO_MM.get(unit, 1.0)
    affine = np.asarray(best_affine, dtype=np.float64) * [[scale], [scale], [scale], [1.0]]
    zooms = [float(zoom) * scale for zoom in header.get_zooms()[:3]]
    if array.ndim == 2:
        spacing = planar_spacing((zooms[1], zooms[0]))
        channels = array.T[None, None]
    else:
        spacing = (zooms[2], zooms[1], zooms[0])
        channels = array.transpose(2, 1, 0)[None] if array.ndim == 3 else array.transpose(3, 2, 1, 0)
    return Case(channels, spacing, affine, name, planar=array.ndim == 2)


def _header(file: IO[bytes] | Decompressed, path: Path) -> Any:
    """The header of an open file, without its extensions."""
    head = file.read(nib.Nifti2Header.sizeof_hdr)
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(head):
            return kind(head[: kind.sizeof_hdr])
    raise CaseError(f"{path} can't be read as NIfTI: it has no header of that format, or not all of it")


def write_nifti(path: Path, labels: npt.NDArray[Any], case: Case) -> None:
    """Write labels (Z, Y, X) on the grid of `case`; without an affine the spacing alone is kept."""
    array = labels.transpose(2, 1, 0)
    image = nib.Nifti1Image(array[..., 0] if case.planar else array, case.to_world)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
