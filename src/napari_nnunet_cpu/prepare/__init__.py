"""Prepare a case for the network, and record the geometry that export undoes."""

from napari_nnunet_cpu.prepare.geometry import Geometry
from napari_nnunet_cpu.prepare.prepare import (
    Cropped,
    Prepared,
    check_first_stage,
    crop,
    nonzero_box,
    plan_geometry,
    prepare,
    reader_order,
)

__all__ = [
    "Cropped",
    "Geometry",
    "Prepared",
    "check_first_stage",
    "crop",
    "nonzero_box",
    "plan_geometry",
    "prepare",
    "reader_order",
]
