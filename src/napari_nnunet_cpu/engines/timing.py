"""Measure which engine is faster on this computer, once, and remember it."""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from napari_nnunet_cpu.engines.engine import Engine
from napari_nnunet_cpu.engines.openvino import describe_network, openvino_version
from napari_nnunet_cpu.json_cache import hash_of, recall, remember, this_computer
from napari_nnunet_cpu.models import TrainedModel

_KIND = "engine-timing"


@dataclass(frozen=True, slots=True)
class EngineTiming:
    """Seconds of one pass, for each engine."""

    openvino: float
    torch: float

    @property
    def faster(self) -> str:
        """Name of the faster engine."""
        return "openvino" if self.openvino <= self.torch else "torch"

    def __str__(self) -> str:
        return f"measured on this computer: openvino {self.openvino:.3g} s a pass, torch {self.torch:.3g} s"


def read_timing(model: TrainedModel, threads: int) -> EngineTiming | None:
    """The measurement for such a network with this many threads; None if it was never measured.

    Raises `EngineError` if OpenVINO can't be loaded.
    """
    match recall(_KIND, _key(model, threads)):
        case {"openvino": float(openvino), "torch": float(torch)} if 0 < openvino < math.inf and 0 < torch < math.inf:
            return EngineTiming(openvino, torch)
    return None


def measure_timing(model: TrainedModel, threads: int, openvino: Engine, torch: Engine) -> EngineTiming:
    """Time a pass of both engines, and remember it; raises `EngineError` if a pass fails."""
    shape = (model.input_channels, *model.configuration.patch_size)
    timing = EngineTiming(*_seconds((openvino, torch), shape))
    remember(_KIND, _key(model, threads), asdict(timing))
    return timing


def _seconds(engines: Sequence[Engine], shape: tuple[int, ...]) -> list[float]:
    """Seconds of one pass for each engine, after a first pass to allocate memory.

    Divided by the number of streams, because passes at the same time share the cores.
    """
    patch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    seconds = []
    for engine in engines:
        engine.forward(patch, 0)
        start = time.perf_counter()
        engine.forward(patch, 0)
        seconds.append((time.perf_counter() - start) / engine.streams)
    return seconds


def _key(model: TrainedModel, threads: int) -> str:
    document = describe_network(model) | {
        "threads": threads,
        "openvino": openvino_version(),
        "torch": importlib.metadata.version("torch"),
        "computer": this_computer(),
    }
    return hash_of(document)
