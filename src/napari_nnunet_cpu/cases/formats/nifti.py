"""Read and write NIfTI files without changing their geometry."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.openers import ImageOpener
from nibabel.volumeutils import array_from_file

from napari_nnunet_cpu.cases.case import Case, SpacingSource, planar_spacing
from napari_nnunet_cpu.cases.formats.declared_size import DEFLATE, UNCOMPRESSED, check_declared_size
from napari_nnunet_cpu.cases.formats.decompressed import Decompressed, decompressed
from napari_nnunet_cpu.cases.nifti_space import NiftiSpace, has_right_angles
from napari_nnunet_cpu.errors import CaseError, first_line

ENDINGS = (".nii", ".nii.gz")

_MAX_AXIS = 2**15 - 1  # in the 16 bits of NIfTI-1
_NO_HEADER = "it has no header of that format, or not all of it"
_NO_FORM, _SCANNER = 0, 1  # codes of a form: none, in the scanner's coordinates


def read_nifti(path: Path, name: str) -> Case:
    """Read a 2D (x, y), 3D (x, y, z) or 4D (x, y, z, channel) file to channels (C, Z, Y, X), as nnU-Net reads it.

    Errors in header fields that no reader needs are ignored. As in ITK, a slope of 0 or NaN is 1, an intercept
    of NaN is 0, and further axes of one voxel are dropped. Raises `CaseError` if the file can't be read.
    """
    try:
        with decompressed(path) as file:
            header = _read_header(file)
            shape = _shape(header)
            if not 2 <= len(shape) <= 4:
                raise CaseError(f"{path} has {len(shape)} axes {shape}; a NIfTI image of 2, 3 or 4 axes is needed")
            voxel_bytes = math.prod(shape) * header.get_data_dtype().itemsize
            check_declared_size(path, voxel_bytes, DEFLATE if isinstance(file, Decompressed) else UNCOMPRESSED)
            array = _read_voxels(file, header, shape)
    except CaseError:
        raise
    except Exception as error:  # noqa: BLE001  # a damaged header can make nibabel raise anything
        raise CaseError(f"{path} can't be read as NIfTI: {first_line(error)}") from error
    space = NiftiSpace(header)
    frame = space.itk
    source = SpacingSource.STATED if space.spacing_stated else SpacingSource.ASSUMED
    channels = array.T[None] if array.ndim == 3 else array.T[None, None] if array.ndim == 2 else array.T
    planar = array.ndim == 2
    spacing = planar_spacing(frame.spacing[1:]) if planar else frame.spacing
    notes = () if frame.affine is not None else (f"{name} has an unknown position: its affine has no inverse",)
    return Case(channels, spacing, frame.affine, name, source, planar, space, notes=notes)


def write_nifti(path: Path, labels: npt.NDArray[Any], case: Case) -> None:
    """Write an array (Z, Y, X) with the geometry of the NIfTI header of `case`, or else its affine."""
    shape = (labels.shape[1:] if case.planar else labels.shape)[::-1]
    header = (nib.Nifti1Header if max(shape) <= _MAX_AXIS else nib.Nifti2Header)()
    header.set_data_shape(shape)
    header.set_data_dtype(labels.dtype)
    if case.nifti is not None:
        case.nifti.copy_to(header)
    else:
        header.set_sform(case.to_world, _SCANNER)
        # A qform can only hold a rotation and voxel sizes.
        header.set_qform(case.to_world, _SCANNER if has_right_angles(case.to_world) else _NO_FORM)
        header.set_xyzt_units("mm")
    header["vox_offset"] = header.single_vox_offset
    # Not with nibabel's image classes, because they change the header.
    with ImageOpener(path, "wb") as file:
        file.write(header.binaryblock)
        file.write(bytes(4))  # no extensions follow
        for plane in labels:
            file.write(np.ascontiguousarray(plane, dtype=header.get_data_dtype()).data)


def _read_header(file: IO[bytes] | Decompressed) -> nib.Nifti1Header:
    """The header as stored, unchecked, because nibabel's checks refuse or change fields that no reader needs."""
    start = file.read(4)
    sizes = {int.from_bytes(start, order) for order in ("little", "big")}
    kind = next((kind for kind in (nib.Nifti1Header, nib.Nifti2Header) if kind.sizeof_hdr in sizes), None)
    if kind is None:
        raise ValueError(_NO_HEADER)
    block = start + file.read(kind.sizeof_hdr - len(start))
    if len(block) < kind.sizeof_hdr:
        raise ValueError(_NO_HEADER)
    header = kind(block, check=False)
    if header["magic"].item() != kind.single_magic:
        raise ValueError(f"its magic is {header['magic'].item()!r}; header and voxels must be in one file (.nii)")
    return header


def _shape(header: nib.Nifti1Header) -> tuple[int, ...]:
    """Voxels along x, y, z and further axes; as in ITK, length 0 is 1, and further axes of length 1 are dropped."""
    axes = int(header["dim"][0])
    shape = [max(int(length), 1) for length in header["dim"][1 : 1 + axes]]
    if not shape or header["dim"][1] < 1:
        raise ValueError(f"its shape is {header['dim'].tolist()}")
    while len(shape) > 3 and shape[-1] == 1:
        del shape[-1]
    return tuple(shape)


def _read_voxels(file: IO[bytes] | Decompressed, header: nib.Nifti1Header, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The voxels (x, y, z, ...), scaled by slope and intercept as in ITK."""
    offset = max(int(header["vox_offset"]), header.single_vox_offset - 4)
    array: npt.NDArray[Any] = array_from_file(shape, header.get_data_dtype(), file, offset)
    slope, intercept = (float(header[name]) for name in ("scl_slope", "scl_inter"))
    slope = slope if math.isfinite(slope) and slope != 0 else 1.0
    intercept = intercept if math.isfinite(intercept) else 0.0
    if (slope, intercept) == (1.0, 0.0) or array.dtype.kind not in "iuf":
        return array
    scaled = np.empty(shape, np.float64 if array.dtype.itemsize == 8 and array.dtype.kind == "f" else np.float32, "F")
    for place in range(shape[-1]):  # ITK computes in float64 and stores float32
        scaled[..., place] = array[..., place].astype(scaled.dtype).astype(np.float64) * slope + intercept
    return scaled
