"""Test-time mirroring: the mean over every combination of the model's mirror axes, and over its folds.

Source: `_internal_maybe_mirror_and_predict` and `predict_logits_from_preprocessed_data` in
nnU-Net `inference/predict_from_raw_data.py`. The folds are averaged tile by tile, which equals nnU-Net's
order because a tile has the same weights in every fold.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines import Engine
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.settings import Settings

Array = npt.NDArray[np.float32]


def mirrored_axes(model: TrainedModel, settings: Settings) -> tuple[int, ...]:
    """The axes of the patch that a run mirrors: the model's mirror axes if the settings ask for mirroring."""
    return model.mirror_axes if settings.mirror else ()


def passes_per_tile(model: TrainedModel, settings: Settings, folds: int | None = None) -> int:
    """Passes of a tile: folds times mirrored passes. A given engine may have other `folds` than the model."""
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
    """Logits or features of one patch (C, *patch), averaged over folds and mirrored passes.

    `mirror_axes` are axes of the patch, 0 being the first after C. `should_stop` is asked before every pass. `watch`
    gets the output (heads or features, *patch) of every pass, mirrored back, and must not change it.

    Returns float32 of shape (heads or features, *patch), or None if stopped. After a single pass it is the engine's
    own array, which is valid until the next pass in the same thread.
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
            # The first output is copied, because the engine may overwrite it; later ones are added in place.
            total = np.array(output, np.float32, order="K") if total is None else np.add(total, output, out=total)
            if watch is not None:
                watch(output)
    return None if total is None else np.divide(total, np.float32(passes), out=total)
