"""Interpolate arrays to another shape, like `skimage.transform.resize` and `scipy.ndimage`.

Voxel centres are aligned and edges extended. Orders 0 and 1 use `axis_weights`, higher ones `splines`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.prepare.axis_weights import axis_weights
from napari_nnunet_cpu.prepare.splines import spline_along_last

Volume = npt.NDArray[np.float32]


def along(array: Volume, axis: int, length: int, order: int, as_torch: bool = False) -> Volume:
    """Resample one axis of an array (float32) to `length` voxels with a spline of order 0 to 5, without clipping.

    Returns the array itself if it has this length already.
    """
    size = array.shape[axis]
    if size == length:
        return array
    if order < 2:
        return axis_weights(size, length, order, as_torch).apply(array, axis)
    return np.moveaxis(spline_along_last(np.moveaxis(array, axis, -1), length, order), 0, axis)


def resized(
    volume: Volume, shape: tuple[int, ...], order: int, pieces: int | None = None, as_torch: bool = False
) -> Volume:
    """Interpolate a volume (float32) to a shape with a spline of order 0 to 5, clipped to the range of the volume.

    With `pieces`, an axis that keeps its length, every slice along it is clipped to its own range. Returns the
    volume itself if it has this shape already.
    """
    if volume.shape == shape:
        return volume
    if order < 2:
        for axis, length in enumerate(shape):
            volume = along(volume, axis, length, order, as_torch)
        return volume
    axes = tuple(axis for axis in range(volume.ndim) if axis != pieces)
    low, high = volume.min(axis=axes, keepdims=True), volume.max(axis=axes, keepdims=True)
    # The middle of the range is moved to 0, because float32 is most precise there.
    middle = low / 2 + high / 2
    smooth = volume - middle
    for length in reversed(shape):
        smooth = spline_along_last(smooth, length, order)
    smooth = np.ascontiguousarray(smooth)
    smooth += middle
    return np.clip(smooth, low, high, out=smooth)
