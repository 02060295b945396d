"""One subject: its channels, its spacing and where it lies in space."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases.nifti_space import NiftiSpace
from napari_nnunet_cpu.cases.voxels import check_finite
from napari_nnunet_cpu.errors import CaseError

Spacing = tuple[float, float, float]

# nnU-Net gives a 2D image one slice of this thickness, relative to its largest pixel
# (imageio/simpleitk_reader_writer.py), which makes it anisotropic: never resampled across slices.
PLANAR_THICKNESS = 999.0


# Channels of one image: their spacings as nnU-Net compares them, but for rounding; how many voxels apart they may
# lie, and from where on it is worth a word.
_SAME_SPACING = 1e-4
_FARTHEST = 0.1
_SAME_PLACE = 1e-3


class SpacingSource(StrEnum):
    """How far a spacing can be relied on.

    The readers of nnU-Net that know no headers (Tiff3DIO, NaturalImage2DIO) ignore pixel sizes in a
    file's metadata, so models trained through them must too.
    """

    USER = "user"  # stated by the user
    STATED = "stated"  # by a header made for it (NIfTI, ITK's formats) or nnU-Net's JSON file
    PIXEL_SIZE = "pixel size"  # by the metadata of a TIFF file or the scale of a layer
    ASSUMED = "assumed"  # by nobody: 1 mm is nnU-Net's own assumption


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
        millimetres in the RAS+ frame of NIfTI. None where the file says nothing of it.
    name : str
        What the subject is called, for messages and file names.
    spacing_source : SpacingSource
        Where the spacing comes from.
    planar : bool
        True for a 2D image; its labels are given back in 2D.
    nifti : NiftiSpace or None
        The NIfTI header that the image came with: labels get its geometry, and `seen_by` asks it.
    file_spacing_mm : tuple of float or None
        Spacing (Z, Y, X) that the file states, where `with_spacing` set another one.
    unit_mm : float
        Millimetres in the unit of `spacing_mm`: not 1 where nnU-Net's reader takes other lengths for mm.
    notes : tuple of str
        What the user should know of how the image was read, a sentence each.

    Raises
    ------
    CaseError
        When the arrays are empty, not numbers, not finite, or do not fit each other.
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
        check_finite(channels, self.name)

    @property
    def spacing_known(self) -> bool:
        """Whether somebody stated the spacing; if not, 1 mm is an assumption."""
        return self.spacing_source is not SpacingSource.ASSUMED

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (Z, Y, X)."""
        z, y, x = self.channels.shape[1:]
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml; NaN where it is not known, and in a plane."""
        return prod(self.spacing_mm) * self.unit_mm**3 / 1000 if self.spacing_known and not self.planar else math.nan

    @property
    def grid_spacing_mm(self) -> Spacing:
        """Spacing (Z, Y, X) of the grid that labels lie on: what the file states, or else the user."""
        return self.file_spacing_mm or self.spacing_mm

    @property
    def to_world(self) -> npt.NDArray[np.float64]:
        """Shape (4, 4): the affine or, without one, the spacing along RAS+ axes from the origin."""
        return self.affine if self.affine is not None else np.diag([*self.grid_spacing_mm[::-1], 1.0])

    def seen_by(self, reader: str) -> Case:
        """The same case with the spacing and affine that one of nnU-Net's readers sees, by its name in the plans.

        A NIfTI header can state several, see `NiftiSpace`. A spacing that the user stated stays.
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
        """The same case, computed at the spacing that the user states, (Z, Y, X) in mm; its place stays as it is.

        A 2D image keeps the thickness that nnU-Net gives it: Z is not used.
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
        """The same case on the grid that `spacing_mm` makes, where the user stated it: for files to train on."""
        if self.spacing_source is not SpacingSource.USER:
            return self
        affine = self.affine
        if affine is not None:
            affine = affine.copy()
            affine[:3, :3] *= np.divide(self.spacing_mm[::-1], np.linalg.norm(affine[:3, :3], axis=0))
        return replace(self, affine=affine, nifti=None, file_spacing_mm=None)


def planar_spacing(spacing_yx: tuple[float, float]) -> Spacing:
    """Spacing (Z, Y, X) that nnU-Net gives a 2D image of this pixel spacing (Y, X)."""
    return max(spacing_yx) * PLANAR_THICKNESS, spacing_yx[0], spacing_yx[1]


def _check_spacing(spacing_mm: Spacing, name: str) -> None:
    if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise CaseError(f"{name}: spacing (Z, Y, X) is {tuple(spacing_mm)} mm; it must be three positive numbers")


def stack_channels(parts: list[Case]) -> Case:
    """One case from several of the same grid, their channels in the order given.

    Raises
    ------
    CaseError
        When shape or spacing differ, or the places by more than a tenth of a voxel; the message names both images.
    """
    first = parts[0]
    notes = [note for part in parts for note in part.notes]
    for part in parts[1:]:
        if part.shape != first.shape:
            raise CaseError(
                f"channels differ in shape (Z, Y, X): {first.name} {first.shape}, {part.name} {part.shape}; "
                "resample them to one grid first"
            )
        if not np.allclose(part.spacing_mm, first.spacing_mm, rtol=_SAME_SPACING):
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
    return replace(first, channels=np.concatenate([part.channels for part in parts]), notes=tuple(notes))


def voxels_apart(affine: npt.NDArray[np.float64], other: npt.NDArray[np.float64], lengths: tuple[int, ...]) -> float:
    """How far a voxel of one image lies from the same voxel of the other at most, in voxels along any axis.

    Parameters
    ----------
    affine, other : numpy.ndarray
        Shape (n + 1, n + 1): voxel to place. The first must have an inverse.
    lengths : tuple of int
        Voxels along each of the n axes, in the order of the affine's columns.
    """
    corners = np.array([[*corner, 1] for corner in product(*((0, length - 1) for length in lengths))]).T
    return float(np.abs(np.linalg.solve(affine, other @ corners) - corners).max())


def check_apart(voxels: float, first: str, other: str) -> str | None:
    """What the user should know of channels that lie so many voxels apart; None where it is rounding.

    Raises
    ------
    CaseError
        When it is more than a tenth of a voxel.
    """
    if voxels > _FARTHEST:
        raise CaseError(
            f"channels lie at different places: {other} is up to {voxels:.3g} voxels away from {first}; "
            "register and resample them to one grid first"
        )
    if voxels > _SAME_PLACE:
        return f"{other} lies up to {voxels:.2g} voxels away from {first}, whose place is taken"
    return None


def _same(affine: npt.NDArray[np.float64] | None, other: npt.NDArray[np.float64] | None) -> bool:
    """Whether two affines are equal, but for the rounding of one library or the other."""
    if affine is None or other is None:
        return affine is other
    return np.allclose(affine, other, rtol=1e-6, atol=1e-6)


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
