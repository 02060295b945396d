"""Prepare a case for the network, and record the geometry that export undoes."""

from napari_nnunet_cpu.prepare.geometry import Geometry
from napari_nnunet_cpu.prepare.prepare import Prepared, check_first_stage, plan_geometry, prepare, reader_order

__all__ = ["Geometry", "Prepared", "check_first_stage", "plan_geometry", "prepare", "reader_order"]
