"""Images in nnU-Net's layout: a `Case` holds all channels of one subject, in file order (Z, Y, X)."""

from napari_nnunet_cpu.cases.axis_letters import split_axes
from napari_nnunet_cpu.cases.case import Case, Spacing, SpacingSource, check_apart, planar_spacing, voxels_apart
from napari_nnunet_cpu.cases.files import (
    LABEL_ENDINGS,
    check_fractions,
    check_output,
    check_place,
    read_case,
    read_labels,
    replacing,
    write_fractions,
    write_labels,
)
from napari_nnunet_cpu.cases.nifti_space import NiftiSpace
from napari_nnunet_cpu.cases.raw_dataset import RawDataset
from napari_nnunet_cpu.cases.voxels import check_intensities
