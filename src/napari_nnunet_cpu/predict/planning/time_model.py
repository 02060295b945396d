"""How long runs took on this computer, remembered for the next: seconds of a pass, and of a voxel."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import threads_of
from napari_nnunet_cpu.engines.openvino.network_cache import describe_network
from napari_nnunet_cpu.json_cache import hash_of, recall, remember, this_computer
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.resources import installed_version
from napari_nnunet_cpu.settings import Settings

_KIND = "times"


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of the parts of a run.

    Attributes
    ----------
    load : float
        Until the engine is there.
    prepare : float
        For a voxel of a channel: those of the image and those of the prepared image count.
    network : float
        For a pass, the adding up of tiles included.
    export : float
        For a number: the logits, and the labels or, where probabilities or uncertainty are made, all heads.
    """

    load: float
    prepare: float
    network: float
    export: float

    @classmethod
    def measured(cls, seconds: dict[str, float], work: Work) -> Times:
        """The times of a run that took so many seconds of each stage."""
        return cls(
            seconds.get("load", 0.0),
            seconds["prepare"] / work.prepared,
            seconds["predict"] / work.passes,
            seconds["export"] / work.exported,
        )

    def of(self, work: Work) -> float:
        """Seconds of a run."""
        return self.load + self.prepare * work.prepared + self.network * work.passes + self.export * work.exported


@dataclass(frozen=True, slots=True)
class Work:
    """What the time of a run depends on, counted.

    Attributes
    ----------
    prepared, passes, exported : int
        As `Times` counts them.
    """

    prepared: int
    passes: int
    exported: int

    @classmethod
    def counted(cls, case: Case, model: TrainedModel, settings: Settings, geometry: Geometry, passes: int) -> Work:
        """The work of one run."""
        voxels, heads = prod(geometry.shape), model.labels.heads
        kept = prod(geometry.cropped_shape)
        prepared = len(model.channel_names) * (prod(case.shape) + voxels)
        return cls(
            prepared,
            passes,
            heads * voxels + (heads * kept if settings.probabilities or settings.uncertainty else kept),
        )


def read_times(model: TrainedModel, settings: Settings) -> Times | None:
    """What the last run of such a network with such settings took; None where there was none."""
    found = recall(_KIND, _key(model, settings))
    try:
        times = Times(**(found or {}))
        return times if all(0 <= seconds < math.inf for seconds in asdict(times).values()) else None
    except TypeError:  # none, or not ours
        return None


def keep_times(model: TrainedModel, settings: Settings, times: Times) -> None:
    """Remember what a run took, where the cache folder allows that."""
    remember(_KIND, _key(model, settings), asdict(times))


def _key(model: TrainedModel, settings: Settings) -> str:
    document: dict[str, Any] = describe_network(model) | {
        "resampling": model.configuration.resampling_fn_data,
        "folds": len(model.folds),
        "engine": settings.engine,
        "device": settings.device,
        "precision": settings.precision,
        "threads": threads_of(settings),
        "streams": settings.streams,
        "probabilities": settings.probabilities,
        "uncertainty": settings.uncertainty,
        "openvino": installed_version("openvino"),
        "torch": installed_version("torch"),
        "computer": this_computer(),
    }
    return hash_of(document)
