"""Resample labels to another shape: each voxel takes the label with the largest share.

Sources: `resize_segmentation` of batchgenerators 0.25.5, which nnunetv2 2.8.1 calls, and nnU-Net's
`resample_torch.py`. Shares are computed exactly as there, because ties are common.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from napari_nnunet_cpu.prepare.axis_weights import axis_weights
from napari_nnunet_cpu.prepare.interpolate import resized

LabelArray = npt.NDArray[np.int32]


def resized_labels(labels: LabelArray, shape: tuple[int, ...], order: int) -> LabelArray:
    """Take the label with the largest interpolated share; for a tie the nearest label, or else the smallest."""
    if labels.shape == shape:
        return labels

    def interpolated(array: npt.NDArray[np.float64], order: int) -> npt.NDArray[np.float64]:
        result: npt.NDArray[np.float64] = resize(array, shape, order, mode="edge", anti_aliasing=False)
        return result

    nearest = interpolated(labels.astype(np.float64), 0).astype(np.int32)
    if order == 0:
        return nearest
    return _winners(labels, lambda mask: interpolated(mask.astype(np.float64), order), nearest)


def resized_like_torch(labels: LabelArray, shape: tuple[int, ...], order: int) -> LabelArray:
    """Resize labels like nnU-Net's torch function: shares in float16 thousandths, and the smallest label for a tie."""
    if labels.shape == shape:
        return labels

    def share(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float16]:
        return resized(mask * np.float32(1000), shape, order, as_torch=True).astype(np.float16)

    return _winners(labels, share)


def resized_first_axis(labels: LabelArray, length: int, order: int, as_torch: bool = False) -> LabelArray:
    """Resize the first axis only: take the nearest slice, or for order > 0 the label with a share above one half."""
    size = labels.shape[0]
    if size == length:
        return labels
    if order == 0:
        nearest: LabelArray = axis_weights(size, length, 0, as_torch).apply(labels, 0)
        return nearest
    position = size / length * (np.arange(length) + 0.5) - 0.5
    grid = np.meshgrid(position, *[np.arange(n) for n in labels.shape[1:]], indexing="ij")
    result = np.zeros((length, *labels.shape[1:]), dtype=np.int32)
    for value in np.unique(labels):
        share = map_coordinates((labels == value).astype(np.float64), grid, order=order, mode="nearest")
        result[np.round(share) > 0.5] = value
    return result


def _winners(
    labels: LabelArray,
    share: Callable[[npt.NDArray[np.bool_]], npt.NDArray[np.floating[Any]]],
    nearest: LabelArray | None = None,
) -> LabelArray:
    """The label whose mask has the largest `share`; for a tie `nearest` if it is one of them, or the smallest."""
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
