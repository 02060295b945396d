"""One subject: its channels, its spacing and where it lies in space."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases.voxels import check_finite
from napari_nnunet_cpu.errors import CaseError

Spacing = tuple[float, float, float]

# nnU-Net gives a 2D image one slice of this thickness, relative to its largest pixel
# (imageio/simpleitk_reader_writer.py), which makes it anisotropic: never resampled across slices.
PLANAR_THICKNESS = 999.0


class SpacingSource(StrEnum):
    """How far a spacing can be relied on.

    The readers of nnU-Net that know no headers (Tiff3DIO, NaturalImage2DIO) ignore pixel sizes in a
    file's metadata, so models trained through them must too.
    """

    STATED = "stated"  # by a header made for it (NIfTI, ITK's formats), nnU-Net's JSON file, or the user
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
    def to_world(self) -> npt.NDArray[np.float64]:
        """Shape (4, 4): the affine or, without one, the spacing along RAS+ axes from the origin."""
        return self.affine if self.affine is not None else np.diag([*self.spacing_mm[::-1], 1.0])

    def with_spacing(self, spacing_mm: Spacing) -> Case:
        """The same case with the spacing the user states, (Z, Y, X) in mm; an affine is scaled to it.

        A 2D image keeps the thickness that nnU-Net gives it: Z is not used.
        """
        _check_spacing(spacing_mm, self.name)
        if self.planar:
            spacing_mm = planar_spacing((spacing_mm[1], spacing_mm[2]))
        affine = self.affine
        if affine is not None:
            affine = affine.copy()
            affine[:3, :3] *= np.divide(spacing_mm[::-1], self.spacing_mm[::-1])
        return replace(self, spacing_mm=spacing_mm, affine=affine, spacing_source=SpacingSource.STATED)


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
        When shape, spacing or position differ; the message names both images.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.shape != first.shape:
            raise CaseError(
                f"channels differ in shape (Z, Y, X): {first.name} {first.shape}, {part.name} {part.shape}; "
                "resample them to one grid first"
            )
        if not np.allclose(part.spacing_mm, first.spacing_mm, rtol=1e-4):
            raise CaseError(
                f"channels differ in spacing (Z, Y, X): {first.name} {first.spacing_mm} mm, "
                f"{part.name} {part.spacing_mm} mm; resample them to one grid first"
            )
        if (
            part.affine is not None
            and first.affine is not None
            and not np.allclose(part.affine, first.affine, atol=1e-3)
        ):
            raise CaseError(
                f"channels lie at different places: the affines of {first.name} and {part.name} differ; "
                "register and resample them to one grid first"
            )
    return replace(first, channels=np.concatenate([part.channels for part in parts]))
