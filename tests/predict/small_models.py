"""Small models of every kind that a run treats in a way of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from random_model import RandomModel

from napari_nnunet_cpu import TrainedModel, load_model

REGIONS = {"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3}, "regions_class_order": [3, 1, 2]}
MODELS: dict[str, dict[str, Any]] = {
    "3d": {"patch": (8, 8, 8)},
    "2d": {"patch": (8, 8), "spacing": (1.0, 1.0)},
    "regions": {"patch": (4, 8, 8), **REGIONS},
    "turned": {"patch": (8, 4, 8), "transpose": (1, 2, 0)},
    "nearest": {"patch": (8, 8, 8), "resampling_options": {"probabilities": {"order": 0}}},
    "separate": {"patch": (4, 8, 8), "force_separate_z": True},
    "splines": {"patch": (8, 8, 8), "resampling_options": {"probabilities": {"order": 3}}},
}


def load_models(names: Iterable[str], folders: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    """Those of the names, which see intensities as they are."""
    return {
        name: load_model(RandomModel(normalization="NoNormalization", **MODELS[name]).write(folders.mktemp(name)))
        for name in names
    }
