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
    filled: npt.NDArray[np.bool_] = binary_fill_holes(nonzero_voxels(channels))
    return filled


def nonzero_voxels(channels: Iterable[npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """The mask (Z, Y, X) of voxels that are nonzero in any channel, as float32, in which nnU-Net decides it."""
    masks = (channel.astype(np.float32, copy=False) != 0 for channel in channels)
    found: npt.NDArray[np.bool_] = functools.reduce(np.logical_or, masks)
    return found


def bounding_box(mask: npt.NDArray[np.bool_]) -> Box:
    """The smallest box around a mask (Z, Y, X); the whole array if the mask is empty."""
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        sides.append((int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, mask.shape[axis]))
    return Box(*sides)
