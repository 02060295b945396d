"""Which engine runs a model here."""

from __future__ import annotations

from napari_nnunet_cpu.engines.devices import resolve_device
from napari_nnunet_cpu.engines.engine import Engine
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.resources import usable_cores
from napari_nnunet_cpu.settings import Settings


def choose_engine(model: TrainedModel, settings: Settings) -> Engine:
    """Make the engine that the settings ask for, with the model's weights in it.

    Raises
    ------
    DeviceError
        When the device does not exist here.
    ModelError, EngineError
        When the weights can't be read or do not fit into memory.
    """
    from napari_nnunet_cpu.engines.torch_engine import TorchEngine

    return TorchEngine(model, resolve_device(settings.device), settings.threads or usable_cores())
