"""The record of a preparation: where the prepared image lies in the case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box, Triple
from napari_nnunet_cpu.cases import Case, Spacing
from napari_nnunet_cpu.errors import CaseError

Value = TypeVar("Value", int, float)


@dataclass(frozen=True)
class AxisOrder:
    """A permutation of three axes followed by flips."""

    axes: Triple = (0, 1, 2)  # axis i of the result is axis `axes[i]` of the source
    flipped: tuple[bool, bool, bool] = (False, False, False)  # whether axis i of the result runs backwards

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of an array (Z, Y, X) in this order."""
        return array.transpose(self.axes)[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of an array in the order of the source."""
        straight = array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]
        return straight.transpose(np.argsort(self.axes))

    def apply_box(self, box: Box, shape: Triple) -> Box:
        """The box, in this order, of a box in a source array of this shape."""
        sides = (
            (shape[axis] - box[axis][1], shape[axis] - box[axis][0]) if flip else box[axis]
            for axis, flip in zip(self.axes, self.flipped, strict=True)
        )
        return Box(*sides)

    def undo_box(self, box: Box, shape: Triple) -> Box:
        """The box, in the order of the source, of a box in a reordered array of this shape."""
        sides = [
            (length - stop, length - start) if flip else (start, stop)
            for (start, stop), length, flip in zip(box, shape, self.flipped, strict=True)
        ]
        return Box(*(sides[axis] for axis in np.argsort(self.axes)))

    def permute(self, values: tuple[Value, Value, Value]) -> tuple[Value, Value, Value]:
        """Reorder one value per axis."""
        a, b, c = self.axes
        return values[a], values[b], values[c]

    def unpermute(self, values: tuple[Value, Value, Value]) -> tuple[Value, Value, Value]:
        """Bring one value per axis back to the order of the source."""
        a, b, c = np.argsort(self.axes)
        return values[a], values[b], values[c]

    def then(self, axes: Triple) -> AxisOrder:
        """Combine this order with a further permutation."""
        a, b, c = axes
        return AxisOrder(
            (self.axes[a], self.axes[b], self.axes[c]), (self.flipped[a], self.flipped[b], self.flipped[c])
        )


def to_ras(case: Case) -> AxisOrder:
    """The order that turns the axes (Z, Y, X) of a case to (S, A, R), for nnU-Net's readers "WithReorient".

    Raises `CaseError` if the case has no affine, because its orientation is then unknown.
    """
    if case.affine is None:
        raise CaseError(
            f"{case.name} does not say how it lies in space, but this model turns images to RAS first; "
            "use an image with an affine (NIfTI)"
        )
    orientation = nib.orientations.io_orientation(case.affine)  # the world axis and the sign for each of x, y, z
    if np.isnan(orientation).any():
        raise CaseError(f"{case.name}: the affine is singular, {case.affine.tolist()}")
    source = {int(world): (2 - voxel, sign < 0) for voxel, (world, sign) in enumerate(orientation)}
    (z, flip_z), (y, flip_y), (x, flip_x) = source[2], source[1], source[0]
    return AxisOrder((z, y, x), (bool(flip_z), bool(flip_y), bool(flip_x)))


@dataclass(frozen=True)
class Geometry:
    """The position of the prepared image in the case, which export undoes: along the model's axes."""

    order: AxisOrder  # from the case's axes (Z, Y, X) to the model's axes
    full_shape: Triple  # of the whole image
    box: Box  # of the cropped image in the whole one
    spacing_mm: Spacing  # of the image
    shape: Triple  # of the prepared (resampled) image
    target_spacing_mm: Spacing  # of the prepared image

    @property
    def cropped_shape(self) -> Triple:
        """Shape of the cropped image before resampling, model's axes."""
        return self.box.shape

    @property
    def case_shape(self) -> Triple:
        """Shape of the whole image, case's axes."""
        return self.order.unpermute(self.full_shape)

    def crop(self, whole: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Crop an array of the case (Z, Y, X): a view of shape `cropped_shape`, model's axes."""
        return self.order.apply(whole)[self.box.slices]

    def case_box(self, box: Box) -> Box:
        """The box, in the case, of a box in the cropped image."""
        return self.order.undo_box(box.moved(self.box.start), self.full_shape)

    def cropped_box(self, box: Box) -> Box | None:
        """The box, in the cropped image, of a box in the case; None if it lies outside the cropped image."""
        found = self.order.apply_box(box, self.case_shape).common(self.box)
        return None if found is None else found.seen_from(self.box.start)

    def cropped_point(self, point: Triple) -> Triple:
        """The voxel of the cropped image nearest to a voxel of the case."""
        voxel = self.order.apply_box(Box.at(point, (1, 1, 1)), self.case_shape).seen_from(self.box.start).start
        z, y, x = (min(max(place, 0), length - 1) for place, length in zip(voxel, self.cropped_shape, strict=True))
        return z, y, x

    def place(self, cropped: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Put an array of shape `cropped_shape`, model's axes, into an array of the case (Z, Y, X), 0 around it."""
        whole = np.zeros(self.case_shape, dtype=cropped.dtype)
        self.crop(whole)[...] = cropped
        return whole
