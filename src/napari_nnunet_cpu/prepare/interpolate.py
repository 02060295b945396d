"""Interpolation of numbers to another shape, as `skimage.transform.resize` and `scipy.ndimage` do it.

Voxel centres are aligned and edges continued. Orders 0 and 1 are `taps`, the others `splines`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.prepare.axis_weights import axis_taps
from napari_nnunet_cpu.prepare.splines import spline_along_last

Volume = npt.NDArray[np.float32]


def along(array: Volume, axis: int, length: int, order: int, as_torch: bool = False) -> Volume:
    """Resample one axis alone; nothing is clipped.

    Parameters
    ----------
    array : numpy.ndarray
        float32.
    axis, length : int
        Which axis gets how many voxels.
    order : int
        0 to 5.
    as_torch : bool
        As `axis_taps` takes it.

    Returns
    -------
    numpy.ndarray
        float32; `array` itself when there is nothing to do.
    """
    size = array.shape[axis]
    if size == length:
        return array
    if order < 2:
        return axis_taps(size, length, order, as_torch).apply(array, axis)
    return np.moveaxis(spline_along_last(np.moveaxis(array, axis, -1), length, order), 0, axis)


def resized(
    volume: Volume, shape: tuple[int, ...], order: int, pieces: int | None = None, as_torch: bool = False
) -> Volume:
    """Interpolate a volume, or each of its slices; no value leaves the range of the volume, or of its slice.

    Parameters
    ----------
    volume : numpy.ndarray
        float32, left as it is.
    shape : tuple of int
        The shape wanted.
    order : int
        0 to 5.
    pieces : int, optional
        The axis whose slices have a range of their own; it must keep its length.
    as_torch : bool
        As `axis_taps` takes it.

    Returns
    -------
    numpy.ndarray
        Of that shape, float32; `volume` itself when there is nothing to do.
    """
    if volume.shape == shape:
        return volume
    if order < 2:
        for axis, length in enumerate(shape):
            volume = along(volume, axis, length, order, as_torch)
        return volume
    axes = tuple(axis for axis in range(volume.ndim) if axis != pieces)
    low, high = volume.min(axis=axes, keepdims=True), volume.max(axis=axes, keepdims=True)
    # float32 is finest around 0, and a spline does not care where 0 is.
    middle = low / 2 + high / 2
    smooth = volume - middle
    for length in reversed(shape):
        smooth = spline_along_last(smooth, length, order)
    smooth = np.ascontiguousarray(smooth)
    smooth += middle
    return np.clip(smooth, low, high, out=smooth)
