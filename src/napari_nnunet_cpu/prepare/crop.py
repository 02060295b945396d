"""Crop an image to its nonzero voxels. Source: nnU-Net `preprocessing/cropping/cropping.py`."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_fill_holes

from napari_nnunet_cpu.boxes import Box


def nonzero_mask(channels: Iterable[npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """The mask (Z, Y, X) of voxels that are nonzero in any channel (each (Z, Y, X)), with holes filled."""
    mask = functools.reduce(np.logical_or, (channel != 0 for channel in channels))
    filled: npt.NDArray[np.bool_] = binary_fill_holes(mask)
    return filled


def bounding_box(mask: npt.NDArray[np.bool_]) -> Box:
    """The smallest box around a mask (Z, Y, X); the whole array if the mask is empty."""
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        sides.append((int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, mask.shape[axis]))
    return Box(*sides)
