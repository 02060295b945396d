"""The times of runs on this computer: measured by earlier runs, else predicted."""

from __future__ import annotations

import math
from typing import Any

from napari_nnunet_cpu.engines import threads_of
from napari_nnunet_cpu.engines.openvino import describe_network
from napari_nnunet_cpu.json_cache import hash_of, recall, remember, this_computer
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.planning.first_load import describe_engine, is_first_load, remember_load
from napari_nnunet_cpu.predict.planning.first_times import first_times
from napari_nnunet_cpu.predict.planning.work import Times
from napari_nnunet_cpu.settings import Settings

_TIMES = "times"


def times_of(model: TrainedModel, settings: Settings) -> Times | None:
    """The times of a run of this model: measured by earlier runs of such a network, else predicted.

    None if no such network has run yet, and its times can't be predicted (see `first_times`).
    """
    known = recall(_TIMES, hash_of(_network(model, settings))) or {}
    first = is_first_load(model, settings)
    predicted = first_times(model, settings, first)
    found: dict[str, Any] = {}
    for part in ("load", "prepare", "network", "export"):
        measured = known.get(_load_name(first) if part == "load" else part)
        valid = isinstance(measured, int | float) and 0 <= measured < math.inf
        found[part] = measured if valid else getattr(predicted, part, None)
    return None if None in found.values() else Times(**found)


def remember_times(model: TrainedModel, settings: Settings, times: Times) -> None:
    """Remember the times of a run for later estimates, if the cache folder is writable."""
    key = hash_of(_network(model, settings))
    name = _load_name(first=is_first_load(model, settings))
    known = recall(_TIMES, key) or {}
    new = {name: times.load, "prepare": times.prepare, "network": times.network, "export": times.export}
    remember(_TIMES, key, known | new)
    remember_load(model, settings)


def _load_name(first: bool) -> str:
    return "first load" if first else "load"


def _network(model: TrainedModel, settings: Settings) -> dict[str, Any]:
    return (
        describe_engine(settings)
        | describe_network(model)
        | {
            "resampling": model.configuration.resampling_fn_data,
            "folds": len(model.folds),
            "threads": threads_of(settings),
            "streams": settings.streams,
            "probabilities": settings.probabilities,
            "uncertainty": settings.uncertainty,
            "computer": this_computer(),
        }
    )
