"""The times of runs on this computer: measured by earlier runs, else predicted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import prod
from typing import Any

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import threads_of
from napari_nnunet_cpu.engines.openvino.network_cache import describe_network
from napari_nnunet_cpu.json_cache import hash_of, recall, remember, this_computer
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.planning.first_load import describe_engine, is_first_load, remember_load
from napari_nnunet_cpu.predict.planning.first_times import first_times
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.settings import Settings

_TIMES = "times"


@dataclass(frozen=True, slots=True)
class Work:
    """The work of a run, counted."""

    prepared: int  # voxels of all channels, of the image and of the prepared image
    passes: int
    exported: int  # logits, and labels or (for probabilities and uncertainty) all heads

    @classmethod
    def counted(cls, case: Case, model: TrainedModel, settings: Settings, geometry: Geometry, passes: int) -> Work:
        """The work of one run."""
        voxels, heads = prod(geometry.shape), model.labels.heads
        cropped = prod(geometry.cropped_shape)
        exported = heads * cropped if settings.probabilities or settings.uncertainty else cropped
        return cls(len(model.channel_names) * (prod(case.shape) + voxels), passes, heads * voxels + exported)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of a load, and for each voxel, pass and number that `Work` counts; a pass includes adding up its tile."""

    load: float
    prepare: float
    network: float
    export: float

    @classmethod
    def measured(cls, seconds: dict[str, float], work: Work) -> Times:
        """The times of a run, from its seconds per stage."""
        return cls(
            seconds.get("load", 0.0),
            seconds["prepare"] / work.prepared,
            seconds["predict"] / work.passes,
            seconds["export"] / work.exported,
        )

    def of(self, work: Work) -> float:
        """Seconds of a run."""
        return self.load + self.prepare * work.prepared + self.network * work.passes + self.export * work.exported


def times_of(model: TrainedModel, settings: Settings) -> Times | None:
    """The times of a run of this model: measured by earlier runs of such a network, else predicted.

    None if no such network has run yet, and its times can't be predicted (see `first_times`).
    """
    known = recall(_TIMES, hash_of(_network(model, settings))) or {}
    first = is_first_load(model, settings)
    predicted = first_times(model, settings, first)
    found = []
    for name, value in zip((_load_name(first), "prepare", "network", "export"), predicted or (None,) * 4, strict=True):
        measured = known.get(name)
        valid = isinstance(measured, int | float) and 0 <= measured < math.inf
        found.append(measured if valid else value)
    load, prepare, network, export = found
    if load is None or prepare is None or network is None or export is None:
        return None
    return Times(load, prepare, network, export)


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
