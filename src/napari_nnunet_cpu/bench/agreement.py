"""The agreement of two labellings of one image, and the share of boundary in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """The share of voxels with the same label, and the smallest Dice of all labels except background, with its label.

    The last two are None if both labellings have background only.
    """

    equal: float
    worst_dice: float | None
    worst_label: int | None


def agreement(ours: Labels, theirs: Labels) -> Agreement:
    """Compare two labellings of the same shape."""
    same = ours == theirs
    counts = [np.bincount(labels.ravel()) for labels in (ours, theirs, ours[same])]
    heads = max(map(len, counts))
    first, second, both = (np.pad(count, (0, heads - len(count))) for count in counts)
    size = first + second
    present = np.flatnonzero(size[1:]) + 1
    if not present.size:
        return Agreement(float(same.mean()), None, None)
    dice = 2 * both[present] / size[present]
    worst = int(dice.argmin())
    return Agreement(float(same.mean()), float(dice[worst]), int(present[worst]))


def boundary_share(labels: Labels, shape: Sequence[int]) -> float:
    """Share of voxels with another label across one of their faces, on a grid of `shape` over the same image.

    Labels and `shape` are (Z, Y, X); `shape` is the prepared image's, because the export decides there.
    """
    nearest = [((np.arange(n) + 0.5) * length / n).astype(int) for n, length in zip(shape, labels.shape, strict=True)]
    grid = labels[np.ix_(*nearest)]
    boundary = np.zeros(grid.shape, dtype=bool)
    for axis in range(grid.ndim):
        pair, edge = np.moveaxis(grid, axis, 0), np.moveaxis(boundary, axis, 0)
        other = pair[1:] != pair[:-1]
        edge[1:] |= other
        edge[:-1] |= other
    return float(boundary.mean())
