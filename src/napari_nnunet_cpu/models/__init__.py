"""Load a model folder, fold or archive as a checked `TrainedModel`, without executing anything in it."""

from napari_nnunet_cpu.models.ensemble import Model, members_of
from napari_nnunet_cpu.models.load import available_models, load_model
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.models.postprocessing import read_postprocessing

__all__ = ["Model", "TrainedModel", "available_models", "load_model", "members_of", "read_postprocessing"]
