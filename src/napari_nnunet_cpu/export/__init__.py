"""From sums of logits to labels in the image's own grid."""

from napari_nnunet_cpu.export.labels import export_labels

__all__ = ["export_labels"]
