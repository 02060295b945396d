"""Measures of uncertainty, from 0 (certain) to 1 per voxel, which see one head after the other.

They are not calibrated: an uncertainty of 0.2 does not mean that one voxel in five is wrong.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from napari_nnunet_cpu.models import Labels

Array = npt.NDArray[np.float32]

# Below all logits, but finite, so that differences are never NaN.
_LOWEST = np.float32(np.finfo(np.float32).min / 2)


class Measure(Protocol):
    """A measure that sees the logits of all heads in order, with memory for a few arrays of one head's size."""

    def show(self, logits: Array) -> None:
        """Show the next head."""

    def value(self) -> Array:
        """The uncertainty, float32 in [0, 1], in the shape of a head; valid after the last head."""


def measure_of(kind: str, labels: Labels, shape: tuple[int, ...]) -> Measure:
    """The measure called `kind`, for heads of this shape."""
    if kind == "disagreement":
        return _Disagreement()
    if labels.region_values is None:
        return _Margin(shape) if kind == "margin" else _Entropy(shape, labels.heads)
    return _RegionMargin(shape) if kind == "margin" else _RegionEntropy(shape, labels.heads)


class _Disagreement:
    """Disagreement, which the passes have measured, and which is the only head."""

    def show(self, logits: Array) -> None:
        self._value = logits

    def value(self) -> Array:
        return np.clip(self._value, 0, 1)


class _Softmax:
    """The sum of exp(logit - best), where best is the largest logit so far, so that no exponential overflows."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._best = np.full(shape, _LOWEST, dtype=np.float32)
        self._total = np.zeros(shape, dtype=np.float32)

    def show(self, logits: Array) -> None:
        best = np.maximum(self._best, logits)
        self._total *= np.exp(self._best - best)
        self._total += np.exp(logits - best)
        self._best = best


class _Margin(_Softmax):
    """1 - (p1 - p2) of the two largest probabilities."""

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
    """Shannon's entropy, relative to that of equal probabilities.

    It is log(total) - w / total, where w is the sum of (logit - best) * exp(logit - best).
    """

    def __init__(self, shape: tuple[int, ...], heads: int) -> None:
        super().__init__(shape)
        self._weighted = np.zeros(shape, dtype=np.float32)
        self._most = np.float32(math.log(max(heads, 2)))

    def show(self, logits: Array) -> None:
        best = np.maximum(self._best, logits)
        shift = self._best - best
        self._weighted += shift * self._total
        self._weighted *= np.exp(shift)
        super().show(logits)
        below = logits - best
        self._weighted += below * np.exp(below)

    def value(self) -> Array:
        uncertainty: Array = (np.log(self._total) - self._weighted / self._total) / self._most
        return np.clip(uncertainty, 0, 1, out=uncertainty)


class _RegionMargin:
    """The largest 1 - |2p - 1| of all regions, which is that of the logit nearest to 0."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._least = np.full(shape, np.inf, dtype=np.float32)

    def show(self, logits: Array) -> None:
        np.minimum(self._least, np.abs(logits), out=self._least)

    def value(self) -> Array:
        uncertainty: Array = 2 * expit(-self._least)
        return uncertainty


class _RegionEntropy:
    """The mean entropy of the regions, each inside or outside, in bits."""

    def __init__(self, shape: tuple[int, ...], heads: int) -> None:
        self._total = np.zeros(shape, dtype=np.float32)
        self._most = np.float32(math.log(2) * heads)

    def show(self, logits: Array) -> None:
        away = np.abs(logits)
        self._total += np.log1p(np.exp(-away)) + away * expit(-away)

    def value(self) -> Array:
        uncertainty: Array = self._total / self._most
        return np.clip(uncertainty, 0, 1, out=uncertainty)
