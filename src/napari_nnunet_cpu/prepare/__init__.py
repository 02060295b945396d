"""Prepare a case for the network, and record the geometry that export undoes."""

from napari_nnunet_cpu.prepare.axis_weights import AxisWeights, VolumeWeights
from napari_nnunet_cpu.prepare.crop import bounding_box, nonzero_voxels
from napari_nnunet_cpu.prepare.geometry import AxisOrder, Geometry
from napari_nnunet_cpu.prepare.prepare import (
    Cropped,
    Prepared,
    check_first_stage,
    crop,
    nonzero_box,
    plan_geometry,
    prepare,
    reader_order,
    spacing_seen_by_reader,
)
from napari_nnunet_cpu.prepare.resample import Resampler
