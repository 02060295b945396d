"""Load a model folder, fold or archive as a checked `TrainedModel`, without executing anything in it."""

from napari_nnunet_cpu.models.documents import parse, read_json
from napari_nnunet_cpu.models.ensemble import Model, members_of
from napari_nnunet_cpu.models.folder import CHECKPOINT, CHECKPOINTS
from napari_nnunet_cpu.models.labels import Labels, LabelValue
from napari_nnunet_cpu.models.load import available_models, load_model
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.models.plans import (
    REORIENTING_READERS,
    VOXEL_READERS,
    Dataset,
    Intensities,
    Normalization,
    ResamplingName,
    ResamplingOptions,
)
from napari_nnunet_cpu.models.postprocessing import read_postprocessing
