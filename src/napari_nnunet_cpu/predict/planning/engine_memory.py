"""Memory of the engine: the network's weights, and its feature maps during a pass."""

from __future__ import annotations

from math import prod

from napari_nnunet_cpu.engines import takes_openvino
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.models.network.operations import layers
from napari_nnunet_cpu.resources import is_x86
from napari_nnunet_cpu.settings import Settings

# Measured: feature maps of full resolution that are there at a time, copies of the weights, and the library itself.
_OPENVINO = (4.5, 1.2, 75 * 10**6)
_CONCATENATION = 1.0  # of these maps, see `convolve_apart`
_TORCH = (8.0, 1.4, 25 * 10**6)


def engine_bytes(model: TrainedModel, settings: Settings, channels: int, streams: int) -> int:
    """Memory of the engine during passes, so many at a time, that give so many channels, about.

    On a GPU some of it is the GPU's.
    """
    architecture, patch = model.architecture, prod(model.configuration.patch_size)
    openvino = takes_openvino(settings)
    maps, copies, library = _OPENVINO if openvino else _TORCH
    # A residual decoder keeps both parts for its shortcut. Int8 takes less, but more where it is calibrated.
    if openvino and is_x86() and settings.precision == "f32" and architecture.family != "ResidualUNet":
        maps -= _CONCATENATION
    if isinstance(architecture, Architecture):
        work = layers(architecture, model.input_channels, model.labels.heads, model.configuration.patch_size)
        weights, features = 4 * sum(layer.weights for layer in work), architecture.features_per_stage[0]
    else:  # a transformer, whose few feature maps are small
        weights, features = model.checkpoints[0].stat().st_size, model.input_channels
    # The channels once more, as the network itself lays them out. One stream gives back what another fold took.
    at_a_time = streams if streams == 1 else streams * len(model.folds)
    return int(library + len(model.folds) * copies * weights + 4 * at_a_time * patch * (maps * features + channels))
