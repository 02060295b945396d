"""From summed logits to labels and probabilities on the grid of the image."""

from napari_nnunet_cpu.export.labels import LabelExport, export_rows, label_export
from napari_nnunet_cpu.export.logits import LogitRows, Logits
from napari_nnunet_cpu.export.postprocess import keep_largest
from napari_nnunet_cpu.export.probabilities import ProbabilityExport, labels_of_probabilities, labels_of_store
from napari_nnunet_cpu.export.store import Store

__all__ = [
    "LabelExport",
    "LogitRows",
    "Logits",
    "ProbabilityExport",
    "Store",
    "export_rows",
    "keep_largest",
    "label_export",
    "labels_of_probabilities",
    "labels_of_store",
]
