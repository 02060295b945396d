"""How far the labels of two precisions agree."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.models.labels import Labels

_FEWEST_VOXELS = 50  # of a class that counts: in a smaller one a single voxel decides


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a comparison of labels came to.

    Attributes
    ----------
    worst : str
        Name of the class or region that agrees least.
    dice : float
        Its Dice coefficient, in [0, 1].
    voxels : float
        Share of all voxels in which every class is the same, in [0, 1].
    """

    worst: str
    dice: float
    voxels: float

    def __str__(self) -> str:
        # Rounded down: what is not reached is not said.
        dice, percent = math.floor(1000 * self.dice) / 1000, math.floor(1000 * self.voxels) / 10
        return f"Dice {dice:g} for {self.worst}, the worst class, and {percent:g} % of voxels the same"


def decided(logits: npt.NDArray[np.float32], labels: Labels) -> npt.NDArray[Any]:
    """What logits say of every voxel.

    Parameters
    ----------
    logits : numpy.ndarray
        Shape (heads, *patch).
    labels : Labels
        What the heads mean.

    Returns
    -------
    numpy.ndarray
        The head that wins, shape of the patch; of regions which of them there are: (heads, *patch), bool.
    """
    return logits > 0 if labels.region_values is not None else logits.argmax(axis=0).astype(np.uint16)


def foreground_classes(found: npt.NDArray[Any]) -> int:
    """How many classes but background, or regions, there are in an array of `decided`."""
    if found.dtype == bool:
        return int(found.reshape(len(found), -1).any(axis=1).sum())
    return np.unique(found[found > 0]).size


def measure_agreement(pairs: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]], labels: Labels) -> Agreement:
    """Compare arrays of `decided`, two at a time: the Dice of every class over all pairs.

    Classes of a few voxels do not count. Where no class is left, background stands for them, with
    the share of equal voxels.
    """
    values = labels.region_values if labels.region_values is not None else tuple(range(labels.heads))
    names = [labels.names[value] for value in values]
    shared, first, second = (np.zeros(labels.heads, np.int64) for _ in range(3))
    equal = total = 0
    for one, other in pairs:
        a, b = _masks(one, labels.heads), _masks(other, labels.heads)
        shared += (a & b).sum(axis=1)
        first += a.sum(axis=1)
        second += b.sum(axis=1)
        equal += int((a == b).all(axis=0).sum())
        total += a.shape[1]
    found = [
        (2 * int(common) / int(n + m), name)
        for name, common, n, m in zip(names, shared, first, second, strict=True)
        if max(n, m) >= _FEWEST_VOXELS
    ]
    dice, worst = min(found or [(equal / total, labels.names[0])], key=lambda pair: pair[0])
    return Agreement(worst, dice, equal / total)


def _masks(found: npt.NDArray[Any], heads: int) -> npt.NDArray[np.bool_]:
    """Shape (heads, voxels)."""
    if found.dtype == bool:
        return found.reshape(heads, -1)
    masks: npt.NDArray[np.bool_] = found.ravel() == np.arange(heads)[:, None]
    return masks
