"""From summed logits to labels and probabilities on the grid of the image."""

from napari_nnunet_cpu.export.labels import export_labels
from napari_nnunet_cpu.export.postprocess import keep_largest
from napari_nnunet_cpu.export.probabilities import export_probabilities, labels_of_probabilities

__all__ = ["export_labels", "export_probabilities", "keep_largest", "labels_of_probabilities"]
