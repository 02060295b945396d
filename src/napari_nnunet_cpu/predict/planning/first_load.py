"""Tell a first load from later ones.

The first load of a model on a computer converts its networks, and calibrates them for int8. Later loads read the
converted networks from the cache, which takes less time and memory.
"""

from __future__ import annotations

from typing import Any

from napari_nnunet_cpu.json_cache import hash_of, recall, remember
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.resources import installed_version
from napari_nnunet_cpu.settings import Settings

_KIND = "loaded"


def is_first_load(model: TrainedModel, settings: Settings) -> bool:
    """Whether no run with these weights and this engine has finished on this computer yet."""
    return recall(_KIND, _key(model, settings)) is None


def remember_load(model: TrainedModel, settings: Settings) -> None:
    """Remember that the next load is not the first."""
    remember(_KIND, _key(model, settings), {"loaded": True})


def describe_engine(settings: Settings) -> dict[str, Any]:
    """The settings and libraries that choose the engine, as plain values."""
    return {
        "engine": settings.engine,
        "device": settings.device,
        "precision": settings.precision,
        "openvino": installed_version("openvino"),
        "torch": installed_version("torch"),
    }


def _key(model: TrainedModel, settings: Settings) -> str:
    return hash_of(describe_engine(settings) | {"weights": model.weights_sha256})
