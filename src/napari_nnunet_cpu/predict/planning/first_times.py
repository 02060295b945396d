"""Predict the times of a network that never ran on this computer, from its operations and the computer's speed."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from napari_nnunet_cpu.engines import resolve_device, takes_openvino, threads_of
from napari_nnunet_cpu.engines.int8.int8 import int8_obstacle
from napari_nnunet_cpu.engines.speed import Speed, computer_speed
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.models.network.operations import layers
from napari_nnunet_cpu.resources import usable_cores
from napari_nnunet_cpu.settings import Settings


class FirstTimes(NamedTuple):
    """Predicted seconds, as in `Times`."""

    load: float
    prepare: float
    network: float
    export: float


class _Engine(NamedTuple):
    """What we measured of an engine, on processors with AVX2 alone up to AMX.

    The weights of the first load are converted, and compiled for the processor.
    """

    multiplications: float  # times as long as a matrix product of as many
    values: float  # times that each number of a feature map is read and written
    a_pass: float  # seconds of a pass besides
    load: float  # seconds
    first_load: float
    load_per_weight: float
    first_load_per_weight: float
    first_passes: float  # passes that the first load takes to calibrate and check int8


_OPENVINO = _Engine(1.0, 2.75, 1e-3, 0.4, 1.8, 2e-8, 1e-7, 0.0)
_INT8 = _Engine(0.35, 2.75, 1e-3, 0.6, 6.0, 2e-8, 1e-7, 6.0)
_TORCH = _Engine(1.8, 5.0, 2e-3, 1.2, 1.2, 1e-8, 1e-8, 0.0)

_PREPARE = 4e-8  # seconds for each voxel, and for each number of the export
_EXPORT = 1e-8


def first_times(model: TrainedModel, settings: Settings, first: bool) -> FirstTimes | None:
    """The times of a run of a U-Net on the CPU; None for other networks and devices.

    `first` says that the model was never loaded on this computer.
    """
    architecture, patch = model.architecture, model.configuration.patch_size
    if not isinstance(architecture, Architecture):
        return None
    if not takes_openvino(settings):
        if resolve_device(settings.device) != "cpu":
            return None
        engine = _TORCH
    elif settings.precision == "int8" and not int8_obstacle("openvino"):
        engine = _INT8
    else:
        engine = _OPENVINO
    speed = _speed()
    work = list(layers(architecture, model.input_channels, model.labels.heads, patch))
    weights = sum(layer.weights for layer in work)
    multiplications, values = sum(layer.multiplications for layer in work), sum(layer.values for layer in work)
    share = threads_of(settings) / usable_cores()
    # Two cores use what the memory bus gives one, and more cores come with more channels to memory.
    seconds = (
        engine.multiplications * multiplications / (speed.multiplications * share)
        + engine.values * values / (speed.values * max(threads_of(settings) / 2, 1))
        + engine.a_pass
    )
    load, per_weight = (
        (engine.first_load, engine.first_load_per_weight) if first else (engine.load, engine.load_per_weight)
    )
    load += per_weight * weights * len(model.folds) + engine.first_passes * seconds * first
    return FirstTimes(load, _PREPARE, seconds, _EXPORT)


@cache
def _speed() -> Speed:
    return computer_speed()
