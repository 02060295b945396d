"""The speed of this computer, measured once and remembered, from which the times of first runs are predicted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from napari_nnunet_cpu.json_cache import hash_of, recall, remember, this_computer
from napari_nnunet_cpu.resources import installed_version

_KIND = "speed"
_SIDE = 1024  # of the matrices, which exceed the caches of a core
_VALUES = 8 * 2**20  # more than the caches hold
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Speed:
    """Operations per second in float32."""

    multiplications: float  # of a matrix product by all cores, each with an addition
    values: float  # read from memory, changed and written by one core, because one core nearly fills the bus


def computer_speed() -> Speed:
    """The speed of this computer. The first call takes about a fifth of a second."""
    key = hash_of({"computer": this_computer(), "numpy": installed_version("numpy")})
    match recall(_KIND, key):
        case {"multiplications": float(multiplications), "values": float(values)} if (
            0 < multiplications < math.inf and 0 < values < math.inf
        ):
            return Speed(multiplications, values)
    speed = _measured()
    remember(_KIND, key, asdict(speed))
    return speed


def _measured() -> Speed:
    matrix = np.full((_SIDE, _SIDE), 0.5, np.float32)
    product = np.empty_like(matrix)
    vector = np.full(_VALUES, 0.5, np.float32)
    scaled = np.empty_like(vector)
    return Speed(
        _SIDE**3 / _shortest(lambda: np.matmul(matrix, matrix, out=product)),
        _VALUES / _shortest(lambda: np.multiply(vector, np.float32(2), out=scaled)),
    )


def _shortest(work: Callable[[], object]) -> float:
    """Seconds of the fastest round, because other programs only ever slow it down."""
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return max(min(seconds), 1e-9)
