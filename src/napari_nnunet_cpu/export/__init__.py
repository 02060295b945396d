"""From summed logits to labels and probabilities on the grid of the image."""

from napari_nnunet_cpu.export.labels import LabelExport, export_labels, label_export
from napari_nnunet_cpu.export.logits import LogitRows, Logits
from napari_nnunet_cpu.export.postprocess import keep_largest
from napari_nnunet_cpu.export.probabilities import export_probabilities, labels_of_probabilities

__all__ = [
    "LabelExport",
    "LogitRows",
    "Logits",
    "export_labels",
    "export_probabilities",
    "keep_largest",
    "label_export",
    "labels_of_probabilities",
]
