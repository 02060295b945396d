"""Test-time mirroring: the mean over every combination of the model's axes, and over its folds.

Source: `_internal_maybe_mirror_and_predict` and `predict_logits_from_preprocessed_data` in
nnU-Net `inference/predict_from_raw_data.py`. All tiles have the same weights in every fold, so
that the mean of the folds may be taken tile by tile.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines.engine import Engine
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.settings import Settings

Array = npt.NDArray[np.float32]


def mirrored_axes(model: TrainedModel, settings: Settings) -> tuple[int, ...]:
    """The axes of the patch that a run mirrors: those that the model was trained for, where the settings ask for it."""
    return model.mirror_axes if settings.mirror else ()


def passes_per_tile(model: TrainedModel, settings: Settings, folds: int | None = None) -> int:
    """Folds times mirrored copies; an engine that was given may hold another number of folds than the model."""
    return (len(model.folds) if folds is None else folds) * int(2 ** len(mirrored_axes(model, settings)))


def mirror_combinations(axes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Every subset of the axes, the empty one first."""
    return tuple(itertools.chain.from_iterable(itertools.combinations(axes, n) for n in range(len(axes) + 1)))


def mean_output(
    engine: Engine,
    patch: Array,
    mirror_axes: Sequence[int],
    should_stop: Callable[[], bool],
    watch: Callable[[Array], None] | None = None,
) -> Array | None:
    """Logits or features of one patch, averaged over folds and mirrored passes.

    Parameters
    ----------
    engine : Engine
        Computes one pass.
    patch : numpy.ndarray
        Shape (C, *patch).
    mirror_axes : sequence of int
        Axes of the patch (0 is the first after C) to mirror.
    should_stop : callable
        Asked before every pass.
    watch : callable, optional
        Shown the output (heads or features, *patch) of every pass, turned back, which is to be left as it is.

    Returns
    -------
    numpy.ndarray or None
        Shape (heads or features, *patch), float32; None when told to stop. It is the engine's own array where there
        is but one pass, and then lasts until the next in the same thread.
    """
    combinations = mirror_combinations(mirror_axes)
    passes = engine.folds * len(combinations)
    total: Array | None = None
    for fold in range(engine.folds):
        for combination in combinations:
            if should_stop():
                return None
            axes = tuple(axis + 1 for axis in combination)
            output = np.flip(engine.forward(np.ascontiguousarray(np.flip(patch, axes)), fold), axes)
            if passes == 1:
                return output
            # A copy once, as it lies in memory, since the engine may overwrite what it gave; then in place.
            total = np.array(output, np.float32, order="K") if total is None else np.add(total, output, out=total)
            if watch is not None:
                watch(output)
    return None if total is None else np.divide(total, np.float32(passes), out=total)
