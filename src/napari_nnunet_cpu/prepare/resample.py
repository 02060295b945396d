"""Resampling to a spacing, by nnU-Net's rules.

Sources: `preprocessing/resampling/default_resampling.py`, `resample_torch.py` and
`no_resampling.py`. Everything works on one volume (Z, Y, X), whatever its axes mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from napari_nnunet_cpu.models.plans import ResamplingName, ResamplingOptions

Volume = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.int32]


def resampled_shape(
    shape: Sequence[int], current_mm: Sequence[float], target_mm: Sequence[float]
) -> tuple[int, int, int]:
    """Voxels after resampling; Python's rounding (half to even), as in nnU-Net."""
    z, y, x = (round(now / then * length) for now, then, length in zip(current_mm, target_mm, shape, strict=True))
    return z, y, x


@dataclass(frozen=True)
class Resampler:
    """One resampling step: between two spacings, by the function and options of the plans.

    Attributes
    ----------
    order : int
        Spline order in the plane, or in space where no axis is separate.
    separate_axis : int or None
        Axis that is much coarser than the others and is resampled on its own.
    separate_order : int
        Spline order along it; 0 takes the nearest slice.
    function : str
        nnU-Net's: they differ in how labels are resampled, and one of them does nothing.
    """

    order: int
    separate_axis: int | None
    separate_order: int
    function: ResamplingName = "resample_data_or_seg_to_shape"

    @classmethod
    def from_plans(
        cls,
        function: ResamplingName,
        options: ResamplingOptions,
        current_mm: Sequence[float],
        target_mm: Sequence[float],
    ) -> Resampler:
        """The step from spacing `current_mm` to `target_mm` (Z, Y, X)."""
        if function == "no_resampling_hack":
            return cls(order=0, separate_axis=None, separate_order=0, function=function)
        force = options.force_separate_z
        if function == "resample_data_or_seg_to_shape":
            order, separate_order = options.order, options.order_z
        else:  # torch's function interpolates linearly whatever the order, and decides for itself unless told
            force = force if "force_separate_z" in options.model_fields_set else None
            order, separate_order = 1, 1 if options.aniso_axis_mode == "linear" else 0
        axis = _separate_axis(force, options.separate_z_anisotropy_threshold, current_mm, target_mm)
        return cls(order, axis, separate_order, function)

    def apply(self, volume: Volume, shape: tuple[int, int, int]) -> Volume:
        """Resample a volume.

        Parameters
        ----------
        volume : numpy.ndarray
            Shape (Z, Y, X), float32.
        shape : tuple of int
            The shape wanted.

        Returns
        -------
        numpy.ndarray
            Of that shape, float32; `volume` itself when there is nothing to do.
        """
        if self._idle(volume, shape):
            return volume
        axis = self.separate_axis
        if axis is None:
            return _resize(volume, shape, self.order)
        slices = np.moveaxis(volume, axis, 0)
        plane = shape[:axis] + shape[axis + 1 :]
        resized = np.stack([_resize(piece, plane, self.order) for piece in slices])
        resized = np.moveaxis(_along_first_axis(resized, shape[axis], self.separate_order), 0, axis)
        return np.ascontiguousarray(resized)

    def apply_labels(self, labels: LabelArray, shape: tuple[int, int, int]) -> LabelArray:
        """Resample labels: no value appears that was not there.

        Parameters
        ----------
        labels : numpy.ndarray
            Shape (Z, Y, X), int32.
        shape : tuple of int
            The shape wanted.

        Returns
        -------
        numpy.ndarray
            Of that shape, int32; `labels` itself when there is nothing to do.
        """
        if self._idle(labels, shape):
            return labels
        torchs = self.function == "resample_torch_fornnunet"
        elect = _elect_by_torch if torchs else _elect
        axis = self.separate_axis
        if axis is None:
            return elect(labels, shape, self.order)
        slices = np.moveaxis(labels, axis, 0)
        plane = shape[:axis] + shape[axis + 1 :]
        resized = np.stack([elect(piece, plane, self.order) for piece in slices])
        if torchs and self.separate_order:
            resized = elect(resized, (shape[axis], *plane), self.separate_order)
        else:
            resized = _labels_along_first_axis(resized, shape[axis], self.separate_order)
        return np.ascontiguousarray(np.moveaxis(resized, 0, axis))

    def _idle(self, array: npt.NDArray[Any], shape: tuple[int, int, int]) -> bool:
        return self.function == "no_resampling_hack" or array.shape == shape


def _separate_axis(
    force: bool | None, threshold: float, current_mm: Sequence[float], target_mm: Sequence[float]
) -> int | None:
    """The axis resampled on its own: the coarsest, where it is `threshold` times coarser and the only one."""
    if force is False:
        return None
    for spacing in (current_mm, target_mm):
        coarsest = max(spacing)
        if force or coarsest / min(spacing) > threshold:
            axes = [axis for axis, length in enumerate(spacing) if coarsest / length == 1]
            return axes[0] if len(axes) == 1 else None
    return None


def _resize(piece: Volume, shape: tuple[int, ...], order: int) -> Volume:
    """Interpolate a plane or a volume; edges are continued, and no value leaves the range of the input."""
    if piece.shape == shape:
        return piece
    if order == 1:
        for axis, length in enumerate(shape):
            piece = np.moveaxis(_along_first_axis(np.moveaxis(piece, axis, 0), length, 1), 0, axis)
        return piece
    # skimage's own spline, because its boundary handling and clipping are part of nnU-Net's result.
    smooth: npt.NDArray[Any] = resize(piece.astype(np.float64), shape, order, mode="edge", anti_aliasing=False)
    return smooth.astype(np.float32)


def _along_first_axis(array: npt.NDArray[Any], length: int, order: int) -> npt.NDArray[Any]:
    """Resample the first axis alone to `length`, voxel centres aligned, edges continued."""
    size = array.shape[0]
    if size == length:
        return array
    position = size / length * (np.arange(length) + 0.5) - 0.5
    if order == 0:
        nearest: npt.NDArray[Any] = array[np.clip(np.floor(position + 0.5).astype(int), 0, size - 1)]
        return nearest
    if order == 1:
        below: npt.NDArray[np.int_] = np.floor(position).astype(int)
        share = (position - below).astype(np.float32).reshape(-1, *[1] * (array.ndim - 1))
        low: Volume = array[np.clip(below, 0, size - 1)]
        low += share * (array[np.clip(below + 1, 0, size - 1)] - low)
        return low
    grid = np.meshgrid(position, *[np.arange(n) for n in array.shape[1:]], indexing="ij")
    smooth: Volume = map_coordinates(array.astype(np.float64), grid, order=order, mode="nearest").astype(np.float32)
    return smooth


def _elect(labels: LabelArray, shape: tuple[int, ...], order: int) -> LabelArray:
    """The label with the largest interpolated share wins; of equal ones the nearest, or the smallest.

    Source: `resize_segmentation` of batchgenerators 0.25.5, which nnunetv2 2.8.1 calls.
    """
    if labels.shape == shape:
        return labels

    def interpolated(array: npt.NDArray[np.float64], order: int) -> npt.NDArray[np.float64]:
        # skimage's own, in float64: ties are decided by equality, and they are common.
        result: npt.NDArray[np.float64] = resize(array, shape, order, mode="edge", anti_aliasing=False)
        return result

    nearest = interpolated(labels.astype(np.float64), 0).astype(np.int32)
    if order == 0:
        return nearest
    return _winners(labels, lambda mask: interpolated(mask.astype(np.float64), order), nearest)


def _elect_by_torch(labels: LabelArray, shape: tuple[int, ...], order: int) -> LabelArray:
    """As `_elect`, by the rule of `resample_torch.py`: shares in float16 thousandths, of equal ones the smallest."""
    if labels.shape == shape:
        return labels
    return _winners(labels, lambda mask: _resize(mask * np.float32(1000), shape, order).astype(np.float16))


def _winners(
    labels: LabelArray,
    share: Callable[[npt.NDArray[np.bool_]], npt.NDArray[np.floating[Any]]],
    nearest: LabelArray | None = None,
) -> LabelArray:
    """The value with the largest `share` of its mask; of equals `nearest`, if it is one of them, or the smallest."""
    values = np.unique(labels)
    best = share(labels == values[0])
    winner = np.full(best.shape, values[0], dtype=np.int32)
    nearest_share = best.copy()
    for value in values[1:]:
        score = share(labels == value)
        winner[score > best] = value
        np.maximum(best, score, out=best)
        if nearest is not None:
            np.copyto(nearest_share, score, where=nearest == value)
    return winner if nearest is None else np.where(nearest_share == best, nearest, winner)


def _labels_along_first_axis(labels: LabelArray, length: int, order: int) -> LabelArray:
    """Resample the first axis alone: the nearest slice, or for higher orders the label with more than half."""
    if order == 0:
        return _along_first_axis(labels, length, 0)
    result = np.zeros((length, *labels.shape[1:]), dtype=np.int32)
    for value in np.unique(labels):
        share = _along_first_axis((labels == value).astype(np.float32), length, order)
        result[np.round(share) > 0.5] = value
    return result
