"""Images in nnU-Net's layout: a `Case` holds all channels of one subject, in file order (Z, Y, X)."""

from napari_nnunet_cpu.cases.case import Case
from napari_nnunet_cpu.cases.files import LABEL_ENDINGS, read_case, read_labels, write_fractions, write_labels

__all__ = ["LABEL_ENDINGS", "Case", "read_case", "read_labels", "write_fractions", "write_labels"]
