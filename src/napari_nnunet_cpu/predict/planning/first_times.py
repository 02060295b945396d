"""Predict the times of a first run, from the operations of the network and the speed of this computer."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from napari_nnunet_cpu.engines import Speed, computer_speed, likely_engine, resolve_device, threads_of
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network import Architecture, layers
from napari_nnunet_cpu.predict.planning.work import Times
from napari_nnunet_cpu.resources import usable_cores
from napari_nnunet_cpu.settings import Settings


class _Engine(NamedTuple):
    """Times of an engine, as we measured them."""

    multiplications: float  # seconds of a convolution, relative to a matrix product with as many multiplications
    values: float  # how often each value of a feature map is read and written
    overhead: float  # further seconds of a pass
    load: float  # seconds of a load, and of a first load
    first_load: float
    load_per_weight: float  # seconds
    first_load_per_weight: float
    first_passes: float  # passes in float32 that calibrate and check int8


_ENGINES = {
    "openvino": _Engine(1.0, 2.6, 1e-3, 0.23, 0.75, 1.2e-8, 6e-8, 0.0),
    "int8": _Engine(0.18, 2.0, 4e-3, 0.25, 2.0, 1.2e-8, 2e-7, 4.8),
    "torch": _Engine(1.8, 5.0, 2e-3, 1.2, 1.2, 1e-8, 1e-8, 0.0),
}
_PREPARE = 4e-8  # seconds per voxel
_EXPORT = 1e-8  # seconds per logit or label


def first_times(model: TrainedModel, settings: Settings, first: bool) -> Times | None:
    """The times of a run of a U-Net on the CPU; None for other networks and devices.

    With `first`, the load is a first load, see `first_load.py`.
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
    # Two cores fill a memory channel, and processors with more cores have more channels.
    product = multiplications / (speed.multiplications * share)
    copy = values / (speed.values * max(threads_of(settings) / 2, 1))
    seconds = engine.multiplications * product + engine.values * copy + engine.overhead
    weights *= len(model.folds)
    load = engine.load + engine.load_per_weight * weights
    if first:
        load = engine.first_load + engine.first_load_per_weight * weights + engine.first_passes * (product + copy)
    return Times(load, _PREPARE, seconds, _EXPORT)


@cache
def _speed() -> Speed:
    return computer_speed()
