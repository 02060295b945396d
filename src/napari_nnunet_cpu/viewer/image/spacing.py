"""The spacing of a layer's image in millimetres, and its source."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image

from napari_nnunet_cpu.cases import Spacing, SpacingSource
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.viewer.image.axes import Axes
from napari_nnunet_cpu.viewer.image.source_geometry import SourceGeometry


def data_to_world(layer: Image) -> npt.NDArray[np.float64]:
    """The layer's linear transform and translation, shape (ndim, ndim + 1)."""
    origin = np.asarray(layer.data_to_world([0] * layer.ndim))
    columns = [np.asarray(layer.data_to_world(list(unit))) - origin for unit in np.eye(layer.ndim)]
    return np.column_stack([*columns, origin])


def layer_spacing(layer: Image, axes: Axes, geometry: SourceGeometry | None) -> tuple[Spacing, SpacingSource, str]:
    """The file's spacing (Z, Y, X) in mm, its source, and a note on the source for the user."""
    linear = data_to_world(layer)[np.ix_(axes.space, axes.space)]
    units = [layer.units[number] for number in axes.space]
    lengths = np.linalg.norm(linear, axis=0)
    source, note = SpacingSource.STATED, "from the layer's scale, taken as mm"
    if any(str(unit) != "pixel" for unit in units):
        lengths = np.linalg.norm(linear * [[_millimetres(unit, layer.name)] for unit in units], axis=0)
        note = f"from the layer's scale, in {units[-1]}"
    elif geometry is not None:
        lengths = lengths * geometry.to_mm
        if geometry.nifti is not None and axes.names == geometry.names:
            if geometry.keeps(lengths):
                stated = geometry.nifti.spacing_stated
                source = SpacingSource.STATED if stated else SpacingSource.ASSUMED
                return geometry.nifti.itk.spacing, source, "from the file's header"
            source, note = SpacingSource.USER, "from the layer's scale, which is not that of its file"
    elif np.allclose(lengths, 1):
        source, note = SpacingSource.ASSUMED, ""
    if geometry is None and note:
        source = SpacingSource.PIXEL_SIZE
    a, b, c = (float(length) for length in [1.0, *lengths][-3:])
    return axes.order.unpermute((a, b, c)), source, note


def _millimetres(unit: Any, name: str) -> float:
    from pint import PintError

    try:
        return float((1 * unit).to("mm").magnitude)
    except PintError as error:
        raise CaseError(f"{name}: its unit {unit} is not a length; set the layer's units to mm") from error
