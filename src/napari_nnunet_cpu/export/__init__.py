"""From accumulated logits to labels, probabilities and uncertainty on the grid of the image."""

from napari_nnunet_cpu.export.labels import LabelExport, export_box, label_export
from napari_nnunet_cpu.export.linear import SLAB_LOGITS, LinearExport
from napari_nnunet_cpu.export.logits import Array, Logits, LogitsOf
from napari_nnunet_cpu.export.postprocess import keep_largest
from napari_nnunet_cpu.export.probabilities import (
    ProbabilityExport,
    labels_of_probabilities,
    labels_of_store,
    normalize,
)
from napari_nnunet_cpu.export.scratch_array import ScratchArray
from napari_nnunet_cpu.export.uncertainty import UncertaintyExport, uncertainty_of_probabilities
