"""The uncertainty of a voxel: numbers from 0 (sure) to 1, made of its heads one after the other.

They are not calibrated: an uncertainty of 0.2 does not say that one voxel in five is wrong.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from napari_nnunet_cpu.models.labels import Labels

Array = npt.NDArray[np.float32]

# Below all logits, and finite: differences to it are numbers.
_LOWEST = np.float32(np.finfo(np.float32).min / 2)


class Measure(Protocol):
    """Sees the logits of all heads, first to last, and holds a few arrays of the size of one."""

    def show(self, logits: Array) -> None:
        """Show the next head."""

    def value(self) -> Array:
        """The uncertainty, float32 in [0, 1], in the shape of a head; at least one was shown."""


def measure_of(kind: str, labels: Labels, shape: tuple[int, ...]) -> Measure:
    """The measure called `kind` for heads of a shape that mean these labels."""
    if kind == "disagreement":
        return _Given()
    if labels.region_values is None:
        return _Margin(shape) if kind == "margin" else _Entropy(shape, labels.heads)
    return _RegionMargin(shape) if kind == "margin" else _RegionEntropy(shape, labels.heads)


class _Given:
    """Uncertainty that was measured tile by tile, and is the only head."""

    def show(self, logits: Array) -> None:
        self._value = logits

    def value(self) -> Array:
        return np.clip(self._value, 0, 1)


class _Softmax:
    """The sum of exp(logit - best), where best is the largest logit so far: no exponential overflows."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._best = np.full(shape, _LOWEST, dtype=np.float32)
        self._total = np.zeros(shape, dtype=np.float32)

    def show(self, logits: Array) -> None:
        best = np.maximum(self._best, logits)
        self._total *= np.exp(self._best - best)
        self._total += np.exp(logits - best)
        self._best = best


class _Margin(_Softmax):
    """1 - (p1 - p2), of the two largest probabilities."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self._second = np.full(shape, _LOWEST, dtype=np.float32)

    def show(self, logits: Array) -> None:
        np.maximum(self._second, np.minimum(self._best, logits), out=self._second)
        super().show(logits)

    def value(self) -> Array:
        uncertainty: Array = 1 - (1 - np.exp(self._second - self._best)) / self._total
        return np.clip(uncertainty, 0, 1, out=uncertainty)


class _Entropy(_Softmax):
    """Shannon's entropy as a share of that of equal heads.

    With w the sum of (logit - best) * exp(logit - best) it is log(total) - w / total.
    """

    def __init__(self, shape: tuple[int, ...], heads: int) -> None:
        super().__init__(shape)
        self._weighted = np.zeros(shape, dtype=np.float32)
        self._most = np.float32(math.log(max(heads, 2)))

    def show(self, logits: Array) -> None:
        best = np.maximum(self._best, logits)
        moved = self._best - best
        self._weighted += moved * self._total
        self._weighted *= np.exp(moved)
        super().show(logits)
        below = logits - best
        self._weighted += below * np.exp(below)

    def value(self) -> Array:
        uncertainty: Array = (np.log(self._total) - self._weighted / self._total) / self._most
        return np.clip(uncertainty, 0, 1, out=uncertainty)


class _RegionMargin:
    """The largest over regions of 1 - |2p - 1|, which is that of the logit nearest to 0."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._least = np.full(shape, np.inf, dtype=np.float32)

    def show(self, logits: Array) -> None:
        np.minimum(self._least, np.abs(logits), out=self._least)

    def value(self) -> Array:
        uncertainty: Array = 2 * expit(-self._least)
        return uncertainty


class _RegionEntropy:
    """The mean over regions of the entropy of being inside or not, in bits."""

    def __init__(self, shape: tuple[int, ...], heads: int) -> None:
        self._total = np.zeros(shape, dtype=np.float32)
        self._most = np.float32(math.log(2) * heads)

    def show(self, logits: Array) -> None:
        away = np.abs(logits)
        self._total += np.log1p(np.exp(-away)) + away * expit(-away)

    def value(self) -> Array:
        uncertainty: Array = self._total / self._most
        return np.clip(uncertainty, 0, 1, out=uncertainty)
