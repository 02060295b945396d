"""One subject: its channels, its spacing and its position in space."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Triple
from napari_nnunet_cpu.cases.nifti_space import NiftiSpace
from napari_nnunet_cpu.cases.voxels import check_finite
from napari_nnunet_cpu.errors import CaseError

Spacing = tuple[float, float, float]

# nnU-Net gives a 2D image one slice of this thickness, relative to its largest pixel size
# (imageio/simpleitk_reader_writer.py), because an anisotropic image is never resampled across slices.
PLANAR_THICKNESS = 999.0

_SPACING_TOLERANCE = 1e-4  # relative, between the channels of one image
_MAX_VOXELS_APART = 0.1  # between the same voxel of two channels
_ROUNDING_VOXELS = 1e-3  # a smaller distance is rounding, and not worth a note


class SpacingSource(StrEnum):
    """The source of a spacing.

    nnU-Net's Tiff3DIO and NaturalImage2DIO ignore pixel sizes in the metadata of a file. Models trained
    through these readers must therefore ignore them, too.
    """

    USER = "user"  # the user
    STATED = "stated"  # a medical header (NIfTI, ITK's formats), or nnU-Net's JSON file
    PIXEL_SIZE = "pixel size"  # the metadata of a TIFF file, or the scale of a layer
    ASSUMED = "assumed"  # nothing: 1 mm, as nnU-Net assumes


@dataclass(frozen=True, eq=False)
class Case:
    """All channels of one subject, in nnU-Net's axis order.

    Attributes
    ----------
    channels : numpy.ndarray
        Intensities, shape (C, Z, Y, X), any real dtype. Z, Y, X is *file order*: the
        slowest axis of a NIfTI or TIFF file first. A 2D image has one slice (Z = 1).
    spacing_mm : tuple of float
        Distance of neighbouring voxels along (Z, Y, X) in millimetres.
    affine : numpy.ndarray or None
        Shape (4, 4): voxel index (x, y, z, 1), so the array's axes *reversed*, to
        millimetres in the RAS+ frame of NIfTI. None if the file has no affine.
    name : str
        Name of the subject, for messages and file names.
    spacing_source : SpacingSource
        The source of the spacing.
    planar : bool
        True for a 2D image, whose labels are written as 2D again.
    nifti : NiftiSpace or None
        The NIfTI header of the image: labels repeat its geometry, and `seen_by` interprets it.
    file_spacing_mm : tuple of float or None
        Spacing (Z, Y, X) that the file states, if `with_spacing` replaced it.
    unit_mm : float
        Millimetres per unit of `spacing_mm`. Not 1 if nnU-Net's reader takes another unit for mm.
    notes : tuple of str
        Sentences that tell the user about special decisions in reading the image.

    Raises
    ------
    CaseError
        When the channels are empty, not real numbers or not finite, or spacing or affine are invalid.
    """

    channels: npt.NDArray[Any]
    spacing_mm: Spacing
    affine: npt.NDArray[np.float64] | None = None
    name: str = "image"
    spacing_source: SpacingSource = SpacingSource.STATED
    planar: bool = False
    nifti: NiftiSpace | None = None
    file_spacing_mm: Spacing | None = None
    unit_mm: float = 1.0
    notes: tuple[str, ...] = ()
    # The channels whose voxels were checked, which copies of the case share: it takes a pass over all of them.
    _checked: npt.NDArray[Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        channels = self.channels
        if channels.ndim != 4:
            raise CaseError(f"{self.name}: expected an array (C, Z, Y, X), found {channels.ndim} axes {channels.shape}")
        if channels.size == 0:
            raise CaseError(f"{self.name}: the image is empty, its shape (C, Z, Y, X) is {channels.shape}")
        if channels.dtype.kind not in "biuf":
            raise CaseError(f"{self.name}: expected real numbers, found dtype {channels.dtype}")
        _check_spacing(self.spacing_mm, self.name)
        if self.planar and channels.shape[1] != 1:
            raise CaseError(f"{self.name}: a 2D image has one slice, found {channels.shape[1]}")
        if self.affine is not None and (self.affine.shape != (4, 4) or not np.isfinite(self.affine).all()):
            raise CaseError(f"{self.name}: the affine must be 4 x 4 finite numbers, found {self.affine.tolist()}")
        if self._checked is not channels:
            check_finite(channels, self.name)
            object.__setattr__(self, "_checked", channels)

    @property
    def spacing_known(self) -> bool:
        """Whether the spacing was stated. If not, it is nnU-Net's 1 mm."""
        return self.spacing_source is not SpacingSource.ASSUMED

    @property
    def shape(self) -> Triple:
        """Voxels along (Z, Y, X)."""
        z, y, x = self.channels.shape[1:]
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml; NaN for an unknown spacing and for a 2D image."""
        return prod(self.spacing_mm) * self.unit_mm**3 / 1000 if self.spacing_known and not self.planar else math.nan

    @property
    def grid_spacing_mm(self) -> Spacing:
        """Spacing (Z, Y, X) of the grid of the labels: the file's spacing, even if the user stated another one."""
        return self.file_spacing_mm or self.spacing_mm

    @property
    def to_world(self) -> npt.NDArray[np.float64]:
        """Voxel index (x, y, z, 1) to RAS+ mm, shape (4, 4): the affine, or the spacing on the diagonal without one."""
        return self.affine if self.affine is not None else np.diag([*self.grid_spacing_mm[::-1], 1.0])

    def seen_by(self, reader: str) -> Case:
        """The case with the spacing and affine that the given reader of nnU-Net finds, named as in the plans.

        A NIfTI header can state several geometries, see `NiftiSpace`. A spacing that the user stated stays.
        """
        if self.nifti is None:
            return self
        frame = self.nifti.seen_by(reader)
        spacing = planar_spacing(frame.spacing[1:]) if self.planar else frame.spacing
        if self.spacing_source is SpacingSource.USER:
            spacing, unit_mm = self.spacing_mm, 1.0
        else:
            unit_mm = frame.unit_mm
        if (spacing, unit_mm) == (self.spacing_mm, self.unit_mm) and _same(frame.affine, self.affine):
            return self
        notes = self.notes
        if unit_mm not in (1, self.unit_mm):
            note = (
                f"{self.name} is measured in {self.nifti.unit_name}s, which {reader} takes for millimetres: "
                f"the spacing (Z, Y, X) is taken as {_listed(frame.spacing)}, as in nnU-Net"
            )
            notes = (*notes, note)
        return replace(self, spacing_mm=spacing, affine=frame.affine, unit_mm=unit_mm, notes=notes)

    def with_spacing(self, spacing_mm: Spacing) -> Case:
        """The case at a spacing (Z, Y, X) in mm that the user states; its position in space stays.

        A 2D image keeps the thickness that nnU-Net gives it, so Z is ignored.
        """
        _check_spacing(spacing_mm, self.name)
        if self.planar:
            spacing_mm = planar_spacing((spacing_mm[1], spacing_mm[2]))
        return replace(
            self,
            spacing_mm=spacing_mm,
            spacing_source=SpacingSource.USER,
            file_spacing_mm=self.grid_spacing_mm if self.spacing_known else None,
            unit_mm=1.0,
        )

    def on_grid_of_spacing(self) -> Case:
        """The case with an affine that has the spacing stated by the user, for files that nnU-Net trains on."""
        if self.spacing_source is not SpacingSource.USER:
            return self
        affine = self.affine
        if affine is not None:
            affine = affine.copy()
            affine[:3, :3] *= np.divide(self.spacing_mm[::-1], np.linalg.norm(affine[:3, :3], axis=0))
        return replace(self, affine=affine, nifti=None, file_spacing_mm=None)


def planar_spacing(spacing_yx: tuple[float, float]) -> Spacing:
    """The spacing (Z, Y, X) that nnU-Net gives a 2D image with this pixel spacing (Y, X)."""
    return max(spacing_yx) * PLANAR_THICKNESS, spacing_yx[0], spacing_yx[1]


def _check_spacing(spacing_mm: Spacing, name: str) -> None:
    if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise CaseError(f"{name}: spacing (Z, Y, X) is {tuple(spacing_mm)} mm; it must be three positive numbers")


def stack_channels(parts: list[Case]) -> Case:
    """Join cases on the same grid into one, with their channels in the given order.

    Raises `CaseError` if shapes or spacings differ, or positions by more than a tenth of a voxel.
    """
    first = parts[0]
    notes = [note for part in parts for note in part.notes]
    for part in parts[1:]:
        if part.shape != first.shape:
            raise CaseError(
                f"channels differ in shape (Z, Y, X): {first.name} {first.shape}, {part.name} {part.shape}; "
                "resample them to one grid first"
            )
        if not np.allclose(part.spacing_mm, first.spacing_mm, rtol=_SPACING_TOLERANCE):
            raise CaseError(
                f"channels differ in spacing (Z, Y, X): {first.name} {first.spacing_mm} mm, "
                f"{part.name} {part.spacing_mm} mm; resample them to one grid first"
            )
        if part.affine is None or first.affine is None:
            continue
        apart = voxels_apart(first.affine, part.affine, first.shape[::-1])
        note = check_apart(apart, first.name, part.name)
        if note is not None:
            notes.append(note)
    channels = np.concatenate([part.channels for part in parts])
    return replace(first, channels=channels, notes=tuple(notes), _checked=channels)


def voxels_apart(affine: npt.NDArray[np.float64], other: npt.NDArray[np.float64], lengths: tuple[int, ...]) -> float:
    """The largest distance between the same voxel in two images, in voxels along any axis.

    Affines have shape (n + 1, n + 1), and `affine` has an inverse. `lengths` are the voxels along each of the n axes,
    in the order of the affine's columns.
    """
    corners = np.array([[*corner, 1] for corner in product(*((0, length - 1) for length in lengths))]).T
    return float(np.abs(np.linalg.solve(affine, other @ corners) - corners).max())


def check_apart(voxels: float, first: str, other: str) -> str | None:
    """A note for the user about channels this many voxels apart; None if the distance is rounding.

    Raises `CaseError` for more than a tenth of a voxel.
    """
    if voxels > _MAX_VOXELS_APART:
        raise CaseError(
            f"channels lie at different places: {other} is up to {voxels:.3g} voxels away from {first}; "
            "register and resample them to one grid first"
        )
    if voxels > _ROUNDING_VOXELS:
        return f"{other} lies up to {voxels:.2g} voxels away from {first}, whose position is used"
    return None


def _same(affine: npt.NDArray[np.float64] | None, other: npt.NDArray[np.float64] | None) -> bool:
    """Whether two affines are equal except for rounding."""
    if affine is None or other is None:
        return affine is other
    return np.allclose(affine, other, rtol=1e-6, atol=1e-6)


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
