"""What a layer's reader left of the file's header: the file's own order of axes, and how it lies in the body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases.nifti_space import NiftiSpace
from napari_nnunet_cpu.prepare.geometry import AxisOrder

Array = npt.NDArray[np.float64]

_NRRD_TO_RAS = {"right-anterior-superior": (1, 1, 1), "left-posterior-superior": (-1, -1, 1)}
# Names that ITK's readers of medical formats leave beside the geometry; those of TIFF or PNG leave none of these.
_ITK_HEADER = ("ITK_", "NRRD_")


@dataclass(frozen=True, eq=False)
class SourceGeometry:
    """Where a layer comes from.

    Attributes
    ----------
    names : tuple
        For every axis of the layer its name in the file, as "-Y"; None for an axis that is not of space.
    affine : numpy.ndarray
        Shape (4, 4): voxel of the layer's three axes of space, the last one first, to RAS+ mm.
    to_mm : float
        Millimetres in a unit of the layer's world, where the layer itself names none.
    source : str
        What says so, for people.
    nifti : NiftiSpace or None
        The geometry in the file's NIfTI header.
    """

    names: tuple[str | None, ...]
    affine: Array
    to_mm: float
    source: str
    nifti: NiftiSpace | None = None

    def keeps(self, lengths: Array) -> bool:
        """Whether the layer's voxel sizes, in mm along its axes of space, are still those that its reader gave it."""
        return np.allclose(lengths, np.linalg.norm(self.affine[:3, :3], axis=0)[::-1], rtol=1e-4)


def source_geometry(metadata: Mapping[Any, Any], scale: Array, translate: Array) -> SourceGeometry | None:
    """Read a layer's metadata, which may hold anything under any name.

    Parameters
    ----------
    metadata : mapping
        The layer's.
    scale, translate : numpy.ndarray
        The layer's, shape (ndim,).

    Returns
    -------
    SourceGeometry or None
        None when the metadata say nothing that is understood.
    """
    if len(scale) not in (3, 4):
        return None
    if "affine" in metadata:
        return _from_affine(metadata, len(scale))
    return _from_itk(metadata, scale, translate)


def source_affine(affine: Array, order: AxisOrder, shape: tuple[int, ...]) -> Array:
    """The affine of the array from which `order` made an array.

    Parameters
    ----------
    affine : numpy.ndarray
        Shape (4, 4): voxel of the array that was made, its last axis first, to mm.
    order : AxisOrder
        From the source's axes to those of the array that was made.
    shape : tuple of int
        Of the array that was made.
    """
    steps = np.zeros((4, 4))
    steps[3, 3] = 1
    for axis, (source, flip, length) in enumerate(zip(order.axes, order.flipped, shape, strict=True)):
        steps[2 - axis, 2 - source] = -1 if flip else 1
        steps[2 - axis, 3] = length - 1 if flip else 0
    return affine @ steps


def _from_affine(metadata: Mapping[Any, Any], ndim: int) -> SourceGeometry | None:
    """An affine, which is napari-nifti's where the file's header is beside it.

    napari-nifti turns images to (S, A, R) on opening, with time or channels last. It keeps the
    affine of the turned array, axes reversed, and the file's own header; together they say how it
    turned the array, whatever it meant to do.
    """
    affine, extra_last = _affine(metadata["affine"]), False
    if affine is None and ndim == 4:
        affine, extra_last = _affine(_without_fourth(metadata["affine"])), True
    if affine is None:
        return None
    header = metadata.get("header")
    nifti = NiftiSpace(header) if isinstance(header, nib.Nifti1Header) else None
    in_file = _affine(_header_affine(header)) if nifti is None else nifti.nibabel.affine
    turns = None if in_file is None else _turns(in_file, affine)
    if turns is None:
        names = (*[None] * (ndim - 3), "Z", "Y", "X")
        return None if extra_last else SourceGeometry(names, affine, 1.0, "the affine in the layer's metadata")
    to_mm = 1.0 if nifti is None else nifti.nibabel.unit_mm  # napari-nifti does not look at the unit
    names = (*turns, *[None] * (ndim - 3))
    return SourceGeometry(names, affine * [[to_mm], [to_mm], [to_mm], [1.0]], to_mm, "the file's header", nifti)


def _turns(in_file: Array, affine: Array) -> tuple[str, str, str] | None:
    """Names in the file of an array's three axes; None when the array is no turned copy of the file's."""
    # Column i: what one step along the array's x, y or z is in the file.
    steps = np.linalg.solve(in_file[:3, :3], affine[:3, :3])
    turns = np.rint(steps)
    if not np.allclose(steps, turns, atol=1e-2) or any((np.abs(turns).sum(axis) != 1).any() for axis in (0, 1)):
        return None
    x, y, z = (
        f"{'-' if turns[row, column] < 0 else ''}{'XYZ'[row]}"
        for column, row in enumerate(np.abs(turns).argmax(axis=0))
    )
    return z, y, x


def _header_affine(header: Any) -> Any:
    """Voxel (x, y, z, 1) of the file to RAS+, from a NRRD header."""
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
    """napari-itk-io leaves the array as it is, and ITK's origin, spacing and direction with all axes reversed.

    Others use the same three words for other orders. So they must agree with the layer's scale and
    place, which napari-itk-io takes from them.
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
        return None  # ITK's defaults for a format that knows nothing of the body
    if ndim == 4 and not np.allclose([direction[0, 1:], direction[1:, 0]], 0, atol=1e-3):
        return None
    lps = np.eye(4)
    lps[:3, :3] = (direction[-3:, -3:] * spacing[-3:])[::-1, ::-1]
    lps[:3, 3] = origin[-3:][::-1]
    names_of_axes = (*[None] * (ndim - 3), "Z", "Y", "X")
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    return SourceGeometry(names_of_axes, ras, 1.0, "the file's header", _nifti_fields(metadata))


def _nifti_fields(metadata: Mapping[Any, Any]) -> NiftiSpace | None:
    """The NIfTI header whose fields ITK left as texts; None where there are none."""
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
    """The affine of x, y and z out of one of x, y, z and a fourth axis."""
    affine = _numbers(value, (5, 5))
    return None if affine is None else affine[np.ix_([0, 1, 2, 4], [0, 1, 2, 4])]


def _affine(value: Any) -> Array | None:
    """The value as an affine of three axes, if it is one."""
    affine = _numbers(value, (4, 4))
    return affine if affine is not None and np.linalg.det(affine) != 0 else None


def _numbers(value: Any, shape: tuple[int, ...]) -> Array | None:
    """The value as finite numbers of this shape, if that is what it is."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == shape and bool(np.isfinite(numbers).all()) else None
