"""Where the prepared image came from: the undo record of preparation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases.case import Case, Spacing
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.events import Bounds

Shape = tuple[int, int, int]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class AxisOrder:
    """A permutation of three axes followed by flips.

    Attributes
    ----------
    axes : tuple of int
        Axis i of the result is axis `axes[i]` of the source.
    flipped : tuple of bool
        Whether axis i of the result runs backwards.
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    flipped: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of `array` (Z, Y, X) in this order."""
        return array.transpose(self.axes)[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of `array` in the source's order."""
        straight = array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]
        return straight.transpose(np.argsort(self.axes))

    def permute(self, values: Spacing) -> Spacing:
        """One value per axis, in this order."""
        a, b, c = self.axes
        return values[a], values[b], values[c]

    def unpermute(self, values: Spacing) -> Spacing:
        """One value per axis of the source, from values in this order."""
        a, b, c = np.argsort(self.axes)
        return values[a], values[b], values[c]

    def then(self, axes: tuple[int, int, int]) -> AxisOrder:
        """Follow this order by a further permutation."""
        a, b, c = axes
        return AxisOrder(
            (self.axes[a], self.axes[b], self.axes[c]), (self.flipped[a], self.flipped[b], self.flipped[c])
        )


def to_ras(case: Case) -> AxisOrder:
    """The order that makes Z, Y, X of a case run along S, A, R (nnU-Net's readers "WithReorient").

    Raises
    ------
    CaseError
        When the case has no affine, so that nobody knows which way it lies.
    """
    if case.affine is None:
        raise CaseError(
            f"{case.name} does not say how it lies in space, but this model turns images to RAS first; "
            "use an image with an affine (NIfTI)"
        )
    orientation = nib.orientations.io_orientation(case.affine)  # for x, y, z: the world axis and the sign
    if np.isnan(orientation).any():
        raise CaseError(f"{case.name}: the affine is singular, {case.affine.tolist()}")
    source = {int(world): (2 - voxel, sign < 0) for voxel, (world, sign) in enumerate(orientation)}
    (z, flip_z), (y, flip_y), (x, flip_x) = source[2], source[1], source[0]
    return AxisOrder((z, y, x), (bool(flip_z), bool(flip_y), bool(flip_x)))


@dataclass(frozen=True)
class Geometry:
    """How the prepared image lies in the case; export alone reads it.

    Attributes
    ----------
    order : AxisOrder
        From the case's axes (Z, Y, X) to the model's.
    full_shape : tuple of int
        The whole image, model's axes.
    box : tuple of slice
        The part kept by cropping to nonzero, model's axes.
    spacing_mm : tuple of float
        Of the image, model's axes.
    shape : tuple of int
        Of the prepared (resampled) image, model's axes.
    target_spacing_mm : tuple of float
        Of the prepared image, model's axes.
    """

    order: AxisOrder
    full_shape: Shape
    box: Box
    spacing_mm: Spacing
    shape: Shape
    target_spacing_mm: Spacing

    @property
    def cropped_shape(self) -> Shape:
        """Of the kept part before resampling, model's axes."""
        z, y, x = (part.stop - part.start for part in self.box)
        return z, y, x

    @property
    def case_shape(self) -> Shape:
        """Of the whole image, case's axes."""
        z, y, x = (self.full_shape[axis] for axis in np.argsort(self.order.axes))
        return z, y, x

    def kept(self, whole: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The kept part of an array of the case (Z, Y, X): a view with shape `cropped_shape`, model's axes."""
        return self.order.apply(whole)[self.box]

    def case_box(self, start: int, stop: int) -> Bounds:
        """Where rows start:stop of the kept part lie in the case: start and stop along each of its axes (Z, Y, X)."""
        rows = (slice(self.box[0].start + start, self.box[0].start + stop), *self.box[1:])
        sides = [
            (length - part.stop, length - part.start) if flipped else (part.start, part.stop)
            for part, length, flipped in zip(rows, self.full_shape, self.order.flipped, strict=True)
        ]
        z, y, x = (sides[axis] for axis in np.argsort(self.order.axes))
        return z, y, x

    def place(self, cropped: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Put an array of the kept part, model's axes, into the whole image, case's axes.

        Parameters
        ----------
        cropped : numpy.ndarray
            Shape `cropped_shape`.

        Returns
        -------
        numpy.ndarray
            Shape of the case (Z, Y, X), contiguous; 0 where cropping took something away.
        """
        whole = np.zeros(self.case_shape, dtype=cropped.dtype)
        self.kept(whole)[...] = cropped
        return whole
