"""The geometry of a layer's file, from the metadata of its reader: order of axes, and orientation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases import NiftiSpace
from napari_nnunet_cpu.prepare import AxisOrder

Array = npt.NDArray[np.float64]

_NRRD_TO_RAS = {"right-anterior-superior": (1, 1, 1), "left-posterior-superior": (-1, -1, 1)}
# Prefixes of metadata from ITK's readers of medical formats. Its readers of TIFF and PNG leave none.
_ITK_HEADER = ("ITK_", "NRRD_")


@dataclass(frozen=True, eq=False)
class SourceGeometry:
    """The geometry of a layer in its file."""

    names: tuple[str | None, ...]  # the file's, for each axis of the layer, such as "-Y"; None for time and channels
    affine: Array  # shape (4, 4): voxel along the layer's three spatial axes, last axis first, to RAS+ mm
    to_mm: float  # millimetres per unit of the layer's world, if the layer itself has no units
    source: str  # for the user
    nifti: NiftiSpace | None = None  # the file's header

    def keeps(self, lengths: Array) -> bool:
        """Whether the voxel sizes of the layer, in mm along its spatial axes, are still those of the file."""
        return np.allclose(lengths, np.linalg.norm(self.affine[:3, :3], axis=0)[::-1], rtol=1e-4)


def source_geometry(metadata: Mapping[Any, Any], scale: Array, translate: Array) -> SourceGeometry | None:
    """Read the source geometry from a layer's metadata, which may be anything; None if they state none.

    `scale` and `translate` are the layer's, shape (ndim,).
    """
    if len(scale) not in (3, 4):
        return None
    if "affine" in metadata:
        return _from_affine(metadata, len(scale))
    return _from_itk(metadata, scale, translate)


def source_affine(affine: Array, order: AxisOrder, shape: tuple[int, ...]) -> Array:
    """The affine (4, 4) of a source array, from that of its reordered copy.

    `affine` maps voxels of the reordered array, last axis first, to mm. `order` leads from the source's axes to those
    of the reordered array, which has this `shape`.
    """
    turns = [(2 - source, -1 if flip else 1) for source, flip in zip(order.axes, order.flipped, strict=True)]
    from_source: Array = nib.orientations.inv_ornt_aff(turns[::-1], shape[::-1])
    return affine @ from_source


def _from_affine(metadata: Mapping[Any, Any], ndim: int) -> SourceGeometry | None:
    """Read an affine, and the file's header if napari-nifti left one.

    napari-nifti reorients images to (S, A, R) on opening, with time or channels last. It leaves the affine of the
    reoriented array, with axes reversed, and the header of the file. Comparing both shows how it reoriented the array.
    """
    affine, extra_last = _affine(metadata["affine"]), False
    if affine is None and ndim == 4:
        affine, extra_last = _affine(_without_fourth(metadata["affine"])), True
    if affine is None:
        return None
    header = metadata.get("header")
    nifti = NiftiSpace(header) if isinstance(header, nib.Nifti1Header) else None
    in_file = _affine(_header_affine(header)) if nifti is None else nifti.nibabel.affine
    spatial = None if in_file is None else _names_in_file(in_file, affine)
    if spatial is None:
        names = (*[None] * (ndim - 3), "Z", "Y", "X")
        return None if extra_last else SourceGeometry(names, affine, 1.0, "the affine in the layer's metadata")
    to_mm = 1.0 if nifti is None else nifti.nibabel.unit_mm  # because napari-nifti ignores the unit
    names = (*spatial, *[None] * (ndim - 3))
    return SourceGeometry(names, affine * [[to_mm], [to_mm], [to_mm], [1.0]], to_mm, "the file's header", nifti)


def _names_in_file(in_file: Array, affine: Array) -> tuple[str, str, str] | None:
    """The file's names of an array's three axes; None if the array is not a reoriented copy of the file's array."""
    # Column i: the step in the file for one step along the array's x, y or z.
    steps = np.linalg.solve(in_file[:3, :3], affine[:3, :3])
    rounded = np.rint(steps)
    if not np.allclose(steps, rounded, atol=1e-2) or any((np.abs(rounded).sum(axis) != 1).any() for axis in (0, 1)):
        return None
    x, y, z = (
        f"{'-' if rounded[row, column] < 0 else ''}{'XYZ'[row]}"
        for column, row in enumerate(np.abs(rounded).argmax(axis=0))
    )
    return z, y, x


def _header_affine(header: Any) -> Any:
    """Voxel (x, y, z, 1) of the file to RAS+ mm, from a NRRD header."""
    if not isinstance(header, dict):
        return None
    signs = _NRRD_TO_RAS.get(str(header.get("space")).lower().removesuffix("-time"))
    try:
        vectors = np.asarray(header["space directions"], dtype=np.float64)
        affine = np.eye(4)
        affine[:3, :3] = vectors[~np.isnan(vectors).any(axis=-1)].T
        affine[:3, 3] = header["space origin"]
    except (KeyError, TypeError, ValueError):
        return None
    return None if signs is None else affine * [[signs[0]], [signs[1]], [signs[2]], [1]]


def _from_itk(metadata: Mapping[Any, Any], scale: Array, translate: Array) -> SourceGeometry | None:
    """Read the geometry of napari-itk-io, which leaves the array as it is, and reverses the axes of ITK's metadata.

    Other readers use the same three words for other axis orders. So they must agree with the layer's scale and
    translation, as in napari-itk-io.
    """
    ndim = len(scale)
    spacing, origin = (_numbers(metadata.get(name), (ndim,)) for name in ("spacing", "origin"))
    direction = _numbers(metadata.get("direction"), (ndim, ndim))
    if spacing is None or origin is None or direction is None:
        return None
    if not (np.allclose(spacing, scale, rtol=1e-4) and np.allclose(origin, translate, rtol=1e-4, atol=1e-4)):
        return None
    if not np.allclose(direction.T @ direction, np.eye(ndim), atol=1e-3) or not (spacing > 0).all():
        return None
    names = [name for name in metadata if isinstance(name, str)]
    dicom = any(name[4:5] == "|" for name in names)
    plain = np.array_equal(direction, np.eye(ndim)) and not origin.any()
    if plain and not dicom and not any(name.startswith(_ITK_HEADER) for name in names):
        return None  # because these are ITK's defaults for a format without orientation
    if ndim == 4 and not np.allclose([direction[0, 1:], direction[1:, 0]], 0, atol=1e-3):
        return None
    lps = np.eye(4)
    lps[:3, :3] = (direction[-3:, -3:] * spacing[-3:])[::-1, ::-1]
    lps[:3, 3] = origin[-3:][::-1]
    names_of_axes = (*[None] * (ndim - 3), "Z", "Y", "X")
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    return SourceGeometry(names_of_axes, ras, 1.0, "the file's header", _nifti_fields(metadata))


def _nifti_fields(metadata: Mapping[Any, Any]) -> NiftiSpace | None:
    """The NIfTI header whose fields ITK left as texts; None if it left none."""
    header = nib.Nifti1Header()
    try:
        for name in ("xyzt_units", "qform_code", "sform_code"):
            header[name] = int(metadata[name])
        for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
            header[name] = float(metadata[name])
        for name in ("srow_x", "srow_y", "srow_z"):
            header[name] = [float(number) for number in metadata[name].split()]
        header["dim"] = [int(metadata[f"dim[{axis}]"]) for axis in range(8)]
        header["pixdim"] = [float(metadata["qfac"]), *(float(metadata[f"pixdim[{axis}]"]) for axis in range(1, 8))]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return NiftiSpace(header)


def _without_fourth(value: Any) -> Any:
    """The affine of x, y and z from one of x, y, z and a fourth axis."""
    affine = _numbers(value, (5, 5))
    return None if affine is None else affine[np.ix_([0, 1, 2, 4], [0, 1, 2, 4])]


def _affine(value: Any) -> Array | None:
    """The value as an affine of three axes; None if it is not one."""
    affine = _numbers(value, (4, 4))
    return affine if affine is not None and np.linalg.det(affine) != 0 else None


def _numbers(value: Any, shape: tuple[int, ...]) -> Array | None:
    """The value as finite numbers of this shape; None if it is something else."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == shape and bool(np.isfinite(numbers).all()) else None
