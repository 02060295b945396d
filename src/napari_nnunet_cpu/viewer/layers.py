"""Layers as cases: which array, in which order, at which spacing; and labels back onto the layer's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image

from napari_nnunet_cpu.cases.case import Case, Spacing, SpacingSource, planar_spacing, stack_channels
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.prepare.geometry import AxisOrder

_TRANSFORMS = ("scale", "translate", "rotate", "shear", "units", "axis_labels")


@dataclass(frozen=True, eq=False)
class LayerImage:
    """A snapshot of the image layers of one run; what happens to the layers afterwards does not matter.

    Attributes
    ----------
    name : str
        Of the first layer.
    arrays : tuple
        One (Z, Y, X) or (Y, X) array per channel as the layers hold it, perhaps lazy; read by `case`.
    order : AxisOrder
        From the file's axes to the layer's. Readers such as napari-nifti turn images to (S, A, R)
        on opening, while nnU-Net was trained on the order of the file.
    spacing_mm : tuple of float
        Of the layer's own axes (Z, Y, X).
    spacing_source : str
        Where it comes from, for people; empty when it is not known and 1 mm is assumed.
    affine : numpy.ndarray or None
        Of the file, as in `Case`.
    transforms : dict
        The layer's place in the world, as keyword arguments of a new layer.
    metadata : dict
        The layer's metadata.
    """

    name: str
    arrays: tuple[Any, ...]
    order: AxisOrder
    spacing_mm: Spacing
    spacing_source: str
    affine: npt.NDArray[np.float64] | None
    transforms: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def planar(self) -> bool:
        """Whether the layers are 2D."""
        return len(self.arrays[0].shape) == 2

    def case(self, spacing_mm: Spacing | None = None) -> Case:
        """Read the arrays.

        Parameters
        ----------
        spacing_mm : tuple of float, optional
            Spacing of the layer's axes (Z, Y, X) that the user states.

        Returns
        -------
        Case
            Channels (C, Z, Y, X) in file order.

        Raises
        ------
        CaseError
            When the arrays can't be read, are empty or not finite.
        """
        spacing = self._file_spacing(spacing_mm or self.spacing_mm)
        if spacing_mm is not None or self.affine is not None:  # a reader that keeps affines knows a header
            source = SpacingSource.STATED
        else:
            source = SpacingSource.PIXEL_SIZE if self.spacing_source else SpacingSource.ASSUMED
        channels = []
        for array in self.arrays:
            try:
                volume = np.asarray(array)
            except (OSError, ValueError, MemoryError) as error:
                raise CaseError(f"{self.name} can't be read: {error}") from error
            channel = self._file_array(volume)[None]
            channels.append(Case(channel, spacing, self.affine, self.name, source, planar=self.planar))
        return stack_channels(channels)

    def outline(self, spacing_mm: Spacing | None = None) -> Case:
        """A case of the same shape and spacing without the intensities: enough to count tiles."""
        empty = self._file_array(np.broadcast_to(np.uint8(0), self.arrays[0].shape))
        channels = np.broadcast_to(empty, (len(self.arrays), *empty.shape))
        spacing = self._file_spacing(spacing_mm or self.spacing_mm)
        return Case(channels, spacing, self.affine, self.name, planar=self.planar)

    def to_layer(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Labels (Z, Y, X) in file order as an array on the layer's grid."""
        array = np.ascontiguousarray(self.order.apply(labels))
        return array[0] if self.planar else array

    def _file_array(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array of the layer's as (Z, Y, X) in file order."""
        return self.order.undo(array[None] if self.planar else array)

    def _file_spacing(self, spacing_mm: Spacing) -> Spacing:
        spacing = planar_spacing((spacing_mm[1], spacing_mm[2])) if self.planar else spacing_mm
        return self.order.unpermute(spacing)


def image_from_layers(layers: Sequence[Image]) -> LayerImage:
    """Take a snapshot of the layers chosen for a model's channels.

    Parameters
    ----------
    layers : sequence of Image
        One per channel. An RGB layer stands for three channels when it is the only layer.

    Returns
    -------
    LayerImage
        Nothing of the data is read yet.

    Raises
    ------
    CaseError
        When the layers are not 2D or 3D images of one grid.
    """
    if not layers:
        raise CaseError("no image layer is chosen; open an image first")
    first = layers[0]
    for layer in layers:
        if not isinstance(layer, Image):
            raise CaseError(f"{getattr(layer, 'name', layer)!s} is not an image layer; choose one")
        if layer.rgb and len(layers) > 1:
            raise CaseError(f"{layer.name} is an RGB layer, which holds all channels; choose it alone or split it")
        if layer.ndim not in (2, 3):
            raise CaseError(
                f"{layer.name} has {layer.ndim} axes {layer.data.shape}; a 2D or 3D image is needed: "
                "make a layer of one time point or channel"
            )
        if layer.ndim != first.ndim or layer.units != first.units:
            raise CaseError(f"{first.name} and {layer.name} have different axes or units; make them the same first")
        if not np.allclose(_data_to_world(layer), _data_to_world(first), rtol=1e-4, atol=1e-4):
            raise CaseError(f"{first.name} and {layer.name} lie at different places or scales; align them first")
    arrays = [_level_zero(layer) for layer in layers]
    if first.rgb:
        arrays = [arrays[0][..., channel] for channel in range(3)]
    for layer, array in zip(layers, arrays, strict=False):
        if array.shape != arrays[0].shape:
            raise CaseError(f"channels differ in shape: {first.name} {arrays[0].shape}, {layer.name} {array.shape}")
    spacing, source = _spacing(first)
    order, affine = _file_order(first)
    return LayerImage(
        name=first.name,
        arrays=tuple(arrays),
        order=order,
        spacing_mm=spacing,
        spacing_source=source,
        affine=affine,
        # The affine as a copy: napari would share the object, and moving one layer would move the other.
        transforms={name: getattr(first, name) for name in _TRANSFORMS} | {"affine": first.affine.affine_matrix.copy()},
        metadata=dict(first.metadata),
    )


def _level_zero(layer: Image) -> Any:
    """The layer's data at full resolution."""
    return layer.data[0] if layer.multiscale else layer.data


def _data_to_world(layer: Image) -> npt.NDArray[np.float64]:
    """The layer's linear transform and translation, shape (ndim, ndim + 1)."""
    origin = np.asarray(layer.data_to_world([0] * layer.ndim))
    columns = [np.asarray(layer.data_to_world(list(unit))) - origin for unit in np.eye(layer.ndim)]
    return np.column_stack([*columns, origin])


def _spacing(layer: Image) -> tuple[Spacing, str]:
    """Spacing (Z, Y, X) in mm, and where it comes from; "" when the layer does not say."""
    lengths = np.linalg.norm(_data_to_world(layer)[:, :-1], axis=0)
    units = [str(unit) for unit in layer.units]
    if all(unit == "pixel" for unit in units):
        stated = not np.allclose(lengths, 1) or "affine" in layer.metadata or "spacing" in layer.metadata
        source = "from the layer's scale, taken as mm" if stated else ""
    else:
        lengths = lengths * [_millimetres(unit, layer.name) for unit in layer.units]
        source = f"from the layer's scale, in {units[-1]}"
    if layer.ndim == 2:
        lengths = [1.0, *lengths]
    z, y, x = (float(length) for length in lengths)
    return (z, y, x), source


def _millimetres(unit: Any, name: str) -> float:
    from pint import PintError

    try:
        return float((1 * unit).to("mm").magnitude)
    except PintError as error:
        raise CaseError(f"{name}: its unit {unit} is not a length; set the layer's units to mm") from error


def _file_order(layer: Image) -> tuple[AxisOrder, npt.NDArray[np.float64] | None]:
    """From the file's axes to the layer's, and the file's affine, as far as the layer tells.

    napari-nifti keeps the affine of the turned array in metadata["affine"] and the file's own in
    metadata["header"]; together they say how it turned the array, whatever it meant to do. Other
    readers leave the file's order as it is.
    """
    affine = _affine(layer.metadata.get("affine"))
    if affine is None or layer.ndim != 3:
        return AxisOrder(), None
    header = layer.metadata.get("header")
    file_affine = _affine(header.get_best_affine()) if hasattr(header, "get_best_affine") else None
    if file_affine is None:
        return AxisOrder(), affine
    # Column i: what one step along the layer's x, y or z is in the file.
    steps = np.linalg.solve(file_affine[:3, :3], affine[:3, :3])
    turns = np.rint(steps)
    if not np.allclose(steps, turns, atol=1e-2) or any((np.abs(turns).sum(axis) != 1).any() for axis in (0, 1)):
        return AxisOrder(), affine
    z, y, x = (2 - int(np.abs(turns[:, axis]).argmax()) for axis in (2, 1, 0))
    flip_z, flip_y, flip_x = (bool(turns[:, axis].sum() < 0) for axis in (2, 1, 0))
    return AxisOrder((z, y, x), (flip_z, flip_y, flip_x)), file_affine


def _affine(value: Any) -> npt.NDArray[np.float64] | None:
    """The value as an affine, if it is one: metadata may hold anything under this name."""
    try:
        affine = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    usable = affine.shape == (4, 4) and bool(np.isfinite(affine).all()) and np.linalg.det(affine) != 0
    return affine if usable else None
