"""Resampling to a spacing, by nnU-Net's rules.

Sources: `preprocessing/resampling/default_resampling.py`, `resample_torch.py` and
`no_resampling.py`. Everything works on one volume (Z, Y, X), whatever its axes mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.models.plans import ResamplingName, ResamplingOptions
from napari_nnunet_cpu.prepare.axis_weights import Taps, axis_taps
from napari_nnunet_cpu.prepare.interpolate import Volume, along, resized
from napari_nnunet_cpu.prepare.resample_labels import LabelArray, elected, elected_along_first, elected_by_torch


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
            return resized(volume, shape, self.order, as_torch=self._as_torch)
        plane = (*shape[:axis], volume.shape[axis], *shape[axis + 1 :])
        result = resized(volume, plane, self.order, axis, self._as_torch)
        return np.ascontiguousarray(along(result, axis, shape[axis], self.separate_order, self._as_torch))

    def taps(self, source: tuple[int, int, int], shape: tuple[int, int, int]) -> tuple[Taps, Taps, Taps] | None:
        """What `apply` does to an array of shape `source`, axis by axis; None where it is not nearest or linear."""
        found = []
        for axis, (size, length) in enumerate(zip(source, shape, strict=True)):
            order = self.separate_order if axis == self.separate_axis else self.order
            if order > 1 and size != length:
                return None
            found.append(axis_taps(size, length, min(order, 1), self._as_torch))
        z, y, x = found
        return z, y, x

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
        elect = elected_by_torch if self._as_torch else elected
        axis = self.separate_axis
        if axis is None:
            return elect(labels, shape, self.order)
        slices = np.moveaxis(labels, axis, 0)
        plane = shape[:axis] + shape[axis + 1 :]
        result = np.stack([elect(piece, plane, self.order) for piece in slices])
        if self._as_torch and self.separate_order:
            result = elect(result, (shape[axis], *plane), self.separate_order)
        else:
            result = elected_along_first(result, shape[axis], self.separate_order, self._as_torch)
        return np.ascontiguousarray(np.moveaxis(result, 0, axis))

    @property
    def _as_torch(self) -> bool:
        return self.function == "resample_torch_fornnunet"

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
