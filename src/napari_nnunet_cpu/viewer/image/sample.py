"""Cases as image layers, and the sample for File > Open Sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image

from napari_nnunet_cpu.cases import Case, read_case
from napari_nnunet_cpu.samples import sample_image

if TYPE_CHECKING:
    from napari.types import LayerData


def case_layer(case: Case) -> Image:
    """Make an image layer of a case in file order (Z, Y, X), in mm, anterior up and right on the left.

    World coordinates are DICOM's (S, P, L), so that axial slices look as radiologists expect. An oblique affine
    is shown without its rotation.
    """
    case = case.seen_by("SimpleITKIO")  # in mm, because nibabel's readers ignore the unit of the file
    flips = np.array([1.0, -1.0, -1.0])
    origin = np.zeros(3) if case.affine is None else case.affine[:3, 3][::-1]
    metadata = {} if case.affine is None else {"affine": case.affine}
    return Image(
        case.channels[0],
        name=case.name,
        scale=flips * case.grid_spacing_mm,
        translate=flips * origin,
        units=("mm",) * 3,
        metadata=metadata,
    )


def sample_head() -> list[LayerData]:
    """The sample image as napari's sample data."""
    return [case_layer(read_case(sample_image())).as_layer_data_tuple()]
