"""Which engine is faster on this computer, where that is not known beforehand: measured once, then remembered."""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from napari_nnunet_cpu.engines.engine import Engine
from napari_nnunet_cpu.engines.openvino.library import openvino_version
from napari_nnunet_cpu.engines.openvino.network_cache import describe_network
from napari_nnunet_cpu.json_cache import hash_of, recall, remember, this_computer
from napari_nnunet_cpu.models.model import TrainedModel

_KIND = "pace"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of one pass.

    Attributes
    ----------
    openvino, torch : float
        By the engine of this name.
    """

    openvino: float
    torch: float

    @property
    def faster(self) -> str:
        """Name of the faster engine."""
        return "openvino" if self.openvino <= self.torch else "torch"

    def __str__(self) -> str:
        return f"measured on this computer: openvino {self.openvino:.3g} s a pass, torch {self.torch:.3g} s"


def read_pace(model: TrainedModel, threads: int) -> Pace | None:
    """What was measured for such a network with so many threads; None where nothing was.

    Raises
    ------
    EngineError
        When openvino can't be loaded.
    """
    match recall(_KIND, _key(model, threads)):
        case {"openvino": float(openvino), "torch": float(torch)} if 0 < openvino < math.inf and 0 < torch < math.inf:
            return Pace(openvino, torch)
    return None


def measure_pace(model: TrainedModel, threads: int, openvino: Engine, torch: Engine) -> Pace:
    """Time a pass of both engines, and remember it where the cache folder allows that.

    Raises
    ------
    EngineError
        When a pass fails.
    """
    shape = (model.input_channels, *model.configuration.patch_size)
    pace = Pace(*_seconds((openvino, torch), shape))
    remember(_KIND, _key(model, threads), asdict(pace))
    return pace


def _seconds(engines: Sequence[Engine], shape: tuple[int, ...]) -> list[float]:
    """Seconds of one pass of each engine, after one to warm up: the first one makes room in memory.

    Of several at a time each takes as much longer.
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
