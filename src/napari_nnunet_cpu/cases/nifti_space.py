"""The geometry of a NIfTI file, as ITK and as nibabel read it.

A header states the geometry up to three times: voxel sizes (pixdim), a rotation (qform) and an affine
(sform). Where these contradict each other, every library chooses differently. A model was trained on the
geometry that its reader chose, so its images must be read in the same way.

Sources: `itkNiftiImageIO.cxx` and `itkImageFileReader.hxx` of ITK 5.4, `nifti1_io.c` of its niftilib,
`nifti1.py` of nibabel 5.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import cached_property

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.quaternions import quat2mat

Array = npt.NDArray[np.float64]

# Millimetres by the unit code of a header. All other codes mean mm, as in ITK.
_UNIT_MM = {1: 1e3, 2: 1.0, 3: 1e-3}
_UNIT_NAMES = {1: "metre", 3: "micrometre"}
_UNIT_BITS = 0x07
_SCANNER = 1  # the code of a form in the scanner's coordinates

# Header fields that labels copy from their image.
_FIELDS_OF_SPACE = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip

_silent = logging.getLogger(f"{__name__}.silent")
_silent.disabled = True


@dataclass(frozen=True, eq=False)
class Frame:
    """The geometry that one reader finds in a header."""

    spacing: tuple[float, float, float]  # along the file's axes (Z, Y, X), in the reader's unit
    # Shape (4, 4): voxel index (x, y, z, 1) to the RAS+ frame, in the reader's unit. None if the header has no affine,
    # or one without an inverse.
    affine: Array | None
    unit_mm: float = 1.0  # millimetres per unit of the reader, because nnU-Net's nibabel readers do not convert


class NiftiSpace:
    """The geometry in the header of a NIfTI file.

    The header must be unchecked (`check=False`), because nibabel's checks change it.
    """

    def __init__(self, header: nib.Nifti1Header) -> None:
        self._header = header.copy()
        self._raw = self._header.structarr

    @property
    def unit_name(self) -> str | None:
        """The unit of length, if it is not mm."""
        return _UNIT_NAMES.get(self._unit)

    @property
    def spacing_stated(self) -> bool:
        """Whether the header has a voxel size for each spatial axis. A missing size is 1, as in ITK."""
        return all(_is_length(float(size)) for size in self._raw["pixdim"][1 : 1 + self._axes])

    def seen_by(self, reader: str) -> Frame:
        """The frame for one of nnU-Net's readers, named as in the plans."""
        if not reader.startswith("Nibabel"):
            return self.itk
        frame = self.nibabel
        if reader.endswith("WithReorient") and frame.affine is not None and not _runs_along_ras(frame.affine):
            # Reorienting in nibabel makes a new header, with voxel sizes from the affine.
            x, y, z = np.linalg.norm(frame.affine[:3, :3], axis=0).tolist()
            return Frame((z, y, x), frame.affine, frame.unit_mm)
        return frame

    @cached_property
    def itk(self) -> Frame:
        """The frame that ITK finds, always in mm."""
        sizes = self._sizes * self._unit_mm
        x, y, z = np.abs(sizes).tolist()
        form = self._itk_form()
        if form is None:
            # ITK refuses such a file, but its voxel sizes are valid, and so is an affine with skewed axes.
            affine = self.nibabel.affine
            return Frame((z, y, x), None if affine is None else affine * _rows(self._unit_mm))
        affine = np.eye(4)
        lengths = np.linalg.norm(form[:3, :3], axis=0)
        sizes[self._axes :] = lengths[self._axes :] * self._unit_mm  # a plane keeps the depth of its form
        # ITK takes only the directions from the form, and reverses an axis with a negative voxel size.
        affine[:3, :3] = form[:3, :3] / lengths * sizes
        affine[:3, 3] = form[:3, 3] * self._unit_mm
        return Frame((z, y, x), affine)

    @cached_property
    def nibabel(self) -> Frame:
        """The frame that nibabel finds, in the unit of the file."""
        checked = self._header.copy()
        checked.check_fix(logger=_silent, error_level=math.inf)
        sizes = np.array(checked.structarr["pixdim"][1:4], dtype=np.float64)
        x, y, z = np.where(np.isfinite(sizes) & (sizes > 0), sizes, 1.0).tolist()
        affine: Array | None
        if checked.structarr["sform_code"] != 0:
            affine = np.array(checked.get_sform(), dtype=np.float64)
        elif checked.structarr["qform_code"] != 0:
            # Not nibabel's own method, because it refuses a quaternion that rounding made too long.
            affine = self._qform(np.array([x, y, z]), float(checked.structarr["pixdim"][0]))
        else:
            affine = np.array(checked.get_base_affine(), dtype=np.float64)
        return Frame((z, y, x), affine if _has_inverse(affine) else None, self._unit_mm)

    def copy_to(self, header: nib.Nifti1Header) -> None:
        """Copy this geometry to another header field by field, so that every program shows both images in one place."""
        for name in _FIELDS_OF_SPACE:
            header.structarr[name] = self._raw[name]

    @property
    def _axes(self) -> int:
        """The number of spatial axes, 1 to 3."""
        return int(min(max(self._raw["dim"][0], 1), 3))

    @property
    def _unit(self) -> int:
        return int(self._raw["xyzt_units"]) & _UNIT_BITS

    @property
    def _unit_mm(self) -> float:
        return _UNIT_MM.get(self._unit, 1.0)

    @property
    def _sizes(self) -> Array:
        """Signed voxel sizes along x, y, z; 1 for a missing size."""
        sizes = np.ones(3)
        stated = np.array(self._raw["pixdim"][1 : 1 + self._axes], dtype=np.float64)
        sizes[: self._axes] = np.where(np.isfinite(stated) & (stated != 0), stated, 1.0)
        return sizes

    def _qform(self, sizes: Array, handedness: float) -> Array:
        """The affine of the qform with these voxel sizes; a quaternion that is too long is normalized."""
        raw = self._raw
        b, c, d = (_finite(float(raw[f"quatern_{letter}"])) for letter in "bcd")
        rest = 1.0 - (b * b + c * c + d * d)
        if rest < 1e-7:
            length = math.sqrt(b * b + c * c + d * d)
            a, b, c, d = 0.0, b / length, c / length, d / length
        else:
            a = math.sqrt(rest)
        affine = np.eye(4)
        affine[:3, :3] = quat2mat([a, b, c, d]) * sizes
        affine[:3, 2] *= -1.0 if handedness < 0 else 1.0
        affine[:3, 3] = [_finite(float(raw[f"qoffset_{letter}"])) for letter in "xyz"]
        return affine

    @property
    def _sform(self) -> Array:
        rows = [self._raw[f"srow_{letter}"] for letter in "xyz"]
        return np.array([*rows, [0, 0, 0, 1]], dtype=np.float64)

    def _itk_form(self) -> Array | None:
        """The form (4, 4) from which ITK takes directions and origin, in the file's unit; None without one."""
        has_qform, has_sform = self._raw["qform_code"] > 0, self._raw["sform_code"] > 0
        if not has_qform and not has_sform:
            # ITK's default: origin 0, and its own axes L, P, S.
            return np.diag([-1.0, -1.0, 1.0, 1.0])
        sizes = np.where(self._sizes > 0, self._sizes, 1.0)
        sform, qform = self._sform, self._qform(sizes, float(self._raw["pixdim"][0]))
        if (
            has_sform
            and has_right_angles(sform)
            and (not has_qform or self._raw["sform_code"] == _SCANNER or _itk_finds_equal(sform, qform))
        ):
            return sform
        return qform if has_qform else None


def _is_length(size: float) -> bool:
    return math.isfinite(size) and size != 0


def _finite(value: float) -> float:
    """The value, or 0 for NaN and infinity, as in niftilib."""
    return value if math.isfinite(value) else 0.0


def _rows(factor: float) -> Array:
    return np.array([[factor], [factor], [factor], [1.0]])


def _has_inverse(affine: Array | None) -> bool:
    """Whether an affine has an inverse, at the float32 precision of a header."""
    if affine is None or not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(lengths.min() > 0 and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-6)


def has_right_angles(affine: Array) -> bool:
    """Whether the axes are at right angles, within ITK's tolerance of 1e-4."""
    if not _has_inverse(affine):
        return False
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(directions @ directions.T - np.eye(3)).max() <= 1e-4)


def _runs_along_ras(affine: Array) -> bool:
    return np.array_equal(nib.io_orientation(affine), [[0, 1], [1, 1], [2, 1]])


def _itk_finds_equal(sform: Array, qform: Array) -> bool:
    """Whether ITK treats two forms as equal. It then takes the sform, which is more precise."""
    same_place = np.abs(sform[:3, 3] - qform[:3, 3]).max() <= 1e-4
    sizes = [np.sort(np.linalg.norm(form[:3, :3], axis=0)) for form in (sform, qform)]
    same_sizes = np.abs(sizes[0] - sizes[1]).max() <= 1e-4
    rotation = _left_singular(sform) @ _left_singular(qform).T
    return bool(same_place and same_sizes and np.abs(rotation - np.eye(3)).max() <= 1e-4)


def _left_singular(form: Array) -> Array:
    """The left singular vectors of orthogonal axes, with the signs and in the order of ITK's LINPACK.

    They are the directions of the axes, the longest first. Householder reflections determine the signs.
    """
    columns = form[:3, :3].copy()
    lengths = np.linalg.norm(columns, axis=0)
    vectors = columns / lengths
    for step in range(3):
        head = columns[step:, step]
        sign = math.copysign(1.0, head[0]) if head[0] != 0 else 1.0
        vectors[:, step] *= -sign
        mirror = head.copy()
        mirror[0] += sign * np.linalg.norm(head)
        if step < 2 and mirror.any():
            columns[step:, step:] -= np.outer(mirror, 2 * mirror @ columns[step:, step:] / (mirror @ mirror))
    longest_first: Array = vectors[:, np.argsort(-lengths, kind="stable")]
    return longest_first
