"""Resample to another spacing by nnU-Net's rules.

Sources: `preprocessing/resampling/default_resampling.py`, `resample_torch.py` and
`no_resampling.py`. Every function works on one volume with three axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Triple
from napari_nnunet_cpu.models import ResamplingName, ResamplingOptions
from napari_nnunet_cpu.prepare.axis_weights import VolumeWeights, axis_weights
from napari_nnunet_cpu.prepare.interpolate import Volume, along, resized
from napari_nnunet_cpu.prepare.resample_labels import LabelArray, resized_first_axis, resized_labels, resized_like_torch


def resampled_shape(shape: Sequence[int], current_mm: Sequence[float], target_mm: Sequence[float]) -> Triple:
    """The shape after resampling, rounded half to even by Python, as in nnU-Net."""
    z, y, x = (round(now / then * length) for now, then, length in zip(current_mm, target_mm, shape, strict=True))
    return z, y, x


@dataclass(frozen=True)
class Resampler:
    """Resamples between two spacings, by the function and options in the plans."""

    order: int  # of the splines within planes; along all axes without a separate axis
    separate_axis: int | None  # much coarser than the others, and therefore resampled separately
    separate_order: int  # of the splines along the separate axis; 0 takes the nearest slice
    function: ResamplingName = "resample_data_or_seg_to_shape"

    @classmethod
    def from_plans(
        cls,
        function: ResamplingName,
        options: ResamplingOptions,
        current_mm: Sequence[float],
        target_mm: Sequence[float],
    ) -> Resampler:
        """The resampler from spacing `current_mm` to `target_mm` (Z, Y, X)."""
        if function == "no_resampling_hack":
            return cls(order=0, separate_axis=None, separate_order=0, function=function)
        force = options.force_separate_z
        if function == "resample_data_or_seg_to_shape":
            order, separate_order = options.order, options.order_z
        else:  # torch's function always interpolates linearly, and chooses the separate axis itself by default
            force = force if "force_separate_z" in options.model_fields_set else None
            order, separate_order = 1, 1 if options.aniso_axis_mode == "linear" else 0
        axis = _separate_axis(force, options.separate_z_anisotropy_threshold, current_mm, target_mm)
        return cls(order, axis, separate_order, function)

    def apply(self, volume: Volume, shape: Triple) -> Volume:
        """Resample a volume (Z, Y, X), float32, to a shape; returns the volume itself if there is nothing to do."""
        if self._unchanged(volume, shape):
            return volume
        axis = self.separate_axis
        if axis is None:
            return resized(volume, shape, self.order, as_torch=self._as_torch)
        plane = (*shape[:axis], volume.shape[axis], *shape[axis + 1 :])
        result = resized(volume, plane, self.order, axis, self._as_torch)
        return np.ascontiguousarray(along(result, axis, shape[axis], self.separate_order, self._as_torch))

    def axis_weights(self, source: Triple, shape: Triple) -> VolumeWeights | None:
        """The weights along each axis by which `apply` resamples from shape `source`; None for higher splines."""
        weights = []
        for axis, (size, length) in enumerate(zip(source, shape, strict=True)):
            order = self.separate_order if axis == self.separate_axis else self.order
            if order > 1 and size != length:
                return None
            weights.append(axis_weights(size, length, min(order, 1), self._as_torch))
        return VolumeWeights(*weights)

    def apply_labels(self, labels: LabelArray, shape: Triple) -> LabelArray:
        """Resample labels (Z, Y, X), int32, to a shape, without new values; may return the labels themselves."""
        if self._unchanged(labels, shape):
            return labels
        resize = resized_like_torch if self._as_torch else resized_labels
        axis = self.separate_axis
        if axis is None:
            return resize(labels, shape, self.order)
        slices = np.moveaxis(labels, axis, 0)
        plane = shape[:axis] + shape[axis + 1 :]
        result = np.stack([resize(piece, plane, self.order) for piece in slices])
        if self._as_torch and self.separate_order:
            result = resize(result, (shape[axis], *plane), self.separate_order)
        else:
            result = resized_first_axis(result, shape[axis], self.separate_order, self._as_torch)
        return np.ascontiguousarray(np.moveaxis(result, 0, axis))

    @property
    def _as_torch(self) -> bool:
        return self.function == "resample_torch_fornnunet"

    def _unchanged(self, array: npt.NDArray[Any], shape: Triple) -> bool:
        return self.function == "no_resampling_hack" or array.shape == shape


def _separate_axis(
    force: bool | None, threshold: float, current_mm: Sequence[float], target_mm: Sequence[float]
) -> int | None:
    """The single coarsest axis, if it is `threshold` times coarser than the finest; it is resampled separately."""
    if force is False:
        return None
    for spacing in (current_mm, target_mm):
        coarsest = max(spacing)
        if force or coarsest / min(spacing) > threshold:
            axes = [axis for axis, length in enumerate(spacing) if coarsest / length == 1]
            return axes[0] if len(axes) == 1 else None
    return None
