"""Predict the times of a network that never ran on this computer, from its operations and the computer's speed."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from napari_nnunet_cpu.engines import likely_engine, resolve_device, threads_of
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
    """What we measured of an engine."""

    multiplications: float  # the time of a convolution, as a multiple of a matrix product with as many
    values: float  # how often each value of a feature map is read and written
    overhead: float  # seconds of a pass besides
    load: float  # seconds
    first_load: float
    load_per_weight: float
    first_load_per_weight: float
    first_passes: float  # passes in float32 that calibrate and check int8


_ENGINES = {
    "openvino": _Engine(1.0, 2.6, 1e-3, 0.23, 0.75, 1.2e-8, 6e-8, 0.0),
    "int8": _Engine(0.18, 2.0, 4e-3, 0.25, 2.0, 1.2e-8, 2e-7, 4.8),
    "torch": _Engine(1.8, 5.0, 2e-3, 1.2, 1.2, 1e-8, 1e-8, 0.0),
}
_PREPARE = 4e-8  # seconds for each voxel, and for each number of the export
_EXPORT = 1e-8


def first_times(model: TrainedModel, settings: Settings, first: bool) -> FirstTimes | None:
    """The times of a run of a U-Net on the CPU; None for other networks and devices.

    `first` says that the model was never loaded on this computer.
    """
    architecture, patch = model.architecture, model.configuration.patch_size
    if not isinstance(architecture, Architecture):
        return None
    kind = likely_engine(settings)
    if kind == "torch" and resolve_device(settings.device) != "cpu":
        return None
    engine = _ENGINES[kind]
    speed = _speed()
    work = list(layers(architecture, model.input_channels, model.labels.heads, patch))
    weights = sum(layer.weights for layer in work)
    multiplications, values = sum(layer.multiplications for layer in work), sum(layer.values for layer in work)
    share = threads_of(settings) / usable_cores()
    # More cores come with more channels to memory, of which two cores fill one.
    product = multiplications / (speed.multiplications * share)
    copy = values / (speed.values * max(threads_of(settings) / 2, 1))
    seconds = engine.multiplications * product + engine.values * copy + engine.overhead
    weights *= len(model.folds)
    load = engine.load + engine.load_per_weight * weights
    if first:
        load = engine.first_load + engine.first_load_per_weight * weights + engine.first_passes * (product + copy)
    return FirstTimes(load, _PREPARE, seconds, _EXPORT)


@cache
def _speed() -> Speed:
    return computer_speed()
