"""Trained models: a folder, a fold or an archive becomes a checked `TrainedModel`. Nothing in it is ever executed."""

from napari_nnunet_cpu.models.load import load_model
from napari_nnunet_cpu.models.model import TrainedModel

__all__ = ["TrainedModel", "load_model"]
