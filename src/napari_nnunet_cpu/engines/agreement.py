"""Measure how well labels in int8 agree with those in f32."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.models import Labels

_MIN_VOXELS = 50  # of a class that counts, because in a smaller one a single voxel changes the Dice


@dataclass(frozen=True, slots=True)
class Agreement:
    """The result of comparing labels."""

    worst: str  # the class or region with the lowest Dice
    dice: float  # of this class, in [0, 1]
    voxels: float  # share of voxels in which all classes are equal, in [0, 1]

    def __str__(self) -> str:
        # Rounded down, so that a limit that was missed never appears reached.
        dice, percent = math.floor(1000 * self.dice) / 1000, math.floor(1000 * self.voxels) / 10
        return f"Dice {dice:g} for {self.worst}, the worst class, and {percent:g} % of voxels the same"


def winners(logits: npt.NDArray[np.float32], labels: Labels) -> npt.NDArray[Any]:
    """The winning head of logits (heads, *patch) per voxel, uint16; for regions a mask per head (heads, *patch)."""
    return logits > 0 if labels.region_values is not None else logits.argmax(axis=0).astype(np.uint16)


def foreground_classes(found: npt.NDArray[Any]) -> int:
    """The number of classes (except background) or regions in an array of `winners`."""
    if found.dtype == bool:
        return int(found.reshape(len(found), -1).any(axis=1).sum())
    return np.unique(found[found > 0]).size


def measure_agreement(pairs: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]], labels: Labels) -> Agreement:
    """Compare pairs of `winners` arrays by the Dice of each class over all pairs.

    Classes of a few voxels are ignored. If no class is left, background takes their place, with the share of equal
    voxels as its Dice.
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
        if max(n, m) >= _MIN_VOXELS
    ]
    dice, worst = min(found or [(equal / total, labels.names[0])], key=lambda pair: pair[0])
    return Agreement(worst, dice, equal / total)


def _masks(found: npt.NDArray[Any], heads: int) -> npt.NDArray[np.bool_]:
    """One mask per head, shape (heads, voxels)."""
    if found.dtype == bool:
        return found.reshape(heads, -1)
    masks: npt.NDArray[np.bool_] = found.ravel() == np.arange(heads)[:, None]
    return masks
