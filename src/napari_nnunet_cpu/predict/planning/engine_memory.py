"""Memory of the engine: the library, the network's weights, and its feature maps during a pass."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from napari_nnunet_cpu.engines import likely_engine
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network import Architecture, layers
from napari_nnunet_cpu.predict.planning.first_load import is_first_load
from napari_nnunet_cpu.resources import is_x86
from napari_nnunet_cpu.settings import Settings


class _Memory(NamedTuple):
    """Memory of an engine, as we measured it."""

    library: float  # bytes
    copies: float  # of the weights
    maps: float  # feature maps of full resolution that exist at the same time
    first_library: float  # further bytes of a first load
    first_copies: float


_ENGINES = {
    "openvino": _Memory(115e6, 2.2, 3.4, 50e6, 1.35),
    "int8": _Memory(115e6, 1.2, 2.2, 85e6, 3.4),
    "torch": _Memory(25e6, 1.4, 8.0, 0.0, 0.0),
}
_CONCATENATION = 1.0  # of these maps, see `convolve_apart`


def engine_bytes(model: TrainedModel, settings: Settings, channels: int, streams: int) -> int:
    """Approximate memory of the engine with this many passes at a time, which return this many channels.

    On a GPU some of it is the GPU's.
    """
    architecture, patch = model.architecture, prod(model.configuration.patch_size)
    kind = likely_engine(settings)
    memory = _ENGINES[kind]
    maps = memory.maps
    # A residual decoder keeps both parts for its shortcut.
    if kind == "openvino" and is_x86() and architecture.family != "ResidualUNet":
        maps -= _CONCATENATION
    if isinstance(architecture, Architecture):
        work = layers(architecture, model.input_channels, model.labels.heads, model.configuration.patch_size)
        weights, features = 4 * sum(layer.weights for layer in work), architecture.features_per_stage[0]
    else:  # a transformer: its few feature maps are small
        weights, features = model.checkpoints[0].stat().st_size, model.input_channels
    library, copies = memory.library, memory.copies
    if is_first_load(model, settings):
        library, copies = library + memory.first_library, copies + memory.first_copies
    # The output channels count too, in the network's own layout. With one stream, folds reuse each other's memory.
    at_a_time = streams if streams == 1 else streams * len(model.folds)
    return int(library + len(model.folds) * copies * weights + 4 * at_a_time * patch * (maps * features + channels))
