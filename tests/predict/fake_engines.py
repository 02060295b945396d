"""Engines without a network, for the loop around them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Compute = Callable[[np.ndarray, int], np.ndarray]


class FakeEngine:
    """Computes logits (heads, *patch) with a function of patch (C, *patch) and fold, and records its calls."""

    name = "fake"
    device = "cpu"
    precision = "f32"
    threads = 1
    streams = 1
    reason = "a test's"
    agreement = head_layer = None

    def __init__(self, compute: Compute, folds: int = 1) -> None:
        self.folds = folds
        self.calls: list[tuple[int, np.ndarray]] = []
        self._compute = compute

    def forward(self, patch: np.ndarray, fold: int) -> np.ndarray:
        assert patch.flags.c_contiguous
        assert patch.dtype == np.float32
        self.calls.append((fold, patch.copy()))
        return np.asarray(self._compute(patch, fold), dtype=np.float32)


def nearest_integer(patch: np.ndarray, _fold: int = 0) -> np.ndarray:
    """Three heads of which the one wins whose number is nearest to the intensity."""
    return np.stack([-((patch[0] - head) ** 2) for head in range(3)])


def position_dependent(patch: np.ndarray, _fold: int = 0) -> np.ndarray:
    """Three heads that depend on the intensity and on the place in the patch, so that neighbouring tiles disagree."""
    place = np.linspace(-1, 1, patch[0].size).reshape(patch[0].shape)
    return np.stack([patch[0] * np.cos(5 * place + head) + np.sin(3 * place - head) for head in range(3)])
