"""Estimate the memory of the engine: the weights, and the feature maps during a pass."""

from __future__ import annotations

from math import prod

from napari_nnunet_cpu.engines import takes_openvino
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.models.network.operations import layers
from napari_nnunet_cpu.resources import is_x86
from napari_nnunet_cpu.settings import Settings

# Measured: feature maps of full resolution held at a time, copies of the weights, and bytes of the library itself.
_OPENVINO = (4.5, 1.2, 75 * 10**6)
_CONCATENATION = 1.0  # the share of these maps that `convolve_apart` saves
_TORCH = (8.0, 1.4, 25 * 10**6)


def engine_bytes(model: TrainedModel, settings: Settings, channels: int, streams: int) -> int:
    """Estimated bytes of an engine with this number of output channels and of streams; on a GPU, some are the GPU's."""
    architecture, patch = model.architecture, prod(model.configuration.patch_size)
    openvino = takes_openvino(settings)
    maps, copies, library = _OPENVINO if openvino else _TORCH
    # Not for a residual decoder, because its shortcut keeps both parts, nor for int8, because calibration needs more.
    if openvino and is_x86() and settings.precision == "f32" and architecture.family != "ResidualUNet":
        maps -= _CONCATENATION
    if isinstance(architecture, Architecture):
        work = layers(architecture, model.input_channels, model.labels.heads, model.configuration.patch_size)
        weights, features = 4 * sum(layer.weights for layer in work), architecture.features_per_stage[0]
    else:  # a transformer: its few feature maps are small
        weights, features = model.checkpoints[0].stat().st_size, model.input_channels
    # The output channels count too, in the network's own layout. With one stream, folds reuse each other's memory.
    at_a_time = streams if streams == 1 else streams * len(model.folds)
    return int(library + len(model.folds) * copies * weights + 4 * at_a_time * patch * (maps * features + channels))
