"""Snapshots of image layers, which can be read as cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import ref

import numpy as np
import numpy.typing as npt
from napari.layers import Image

from napari_nnunet_cpu.boxes import Box, Side, Triple
from napari_nnunet_cpu.cases import Case, NiftiSpace, Spacing, SpacingSource, check_apart, planar_spacing, voxels_apart
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.prepare import bounding_box, nonzero_voxels
from napari_nnunet_cpu.viewer.image.axes import Axes, guess_axes, parse_axes
from napari_nnunet_cpu.viewer.image.placement import Placement, layer_placement
from napari_nnunet_cpu.viewer.image.source_geometry import SourceGeometry, source_affine, source_geometry
from napari_nnunet_cpu.viewer.image.spacing import data_to_world, layer_spacing


@dataclass(frozen=True, eq=False)
class LayerImage:
    """A snapshot of the image layers of a run, which later changes of the layers do not affect."""

    name: str  # of the first layer
    arrays: tuple[Any, ...]  # possibly lazy: one per channel, or one with all channels
    colors: int  # length of a last axis for colours, which `axes` does not include: 3 or 4; 0 without one
    axes: Axes  # of the arrays; readers such as napari-nifti reorient images
    axes_source: str  # for the user; "assumed" if nothing states the axes
    times: tuple[int, ...]  # the time points of the run; (0,) without a time axis
    spacing_mm: Spacing  # along the file's axes (Z, Y, X)
    spacing_source: SpacingSource
    spacing_note: str  # its source, for the user; empty if 1 mm is assumed
    affine: npt.NDArray[np.float64] | None  # of the file, as in `Case`
    nifti: NiftiSpace | None  # header of the file, as in `Case`
    placement: Placement  # of the labels
    metadata: dict[str, Any]  # of the first layer
    notes: tuple[str, ...] = ()  # for the user, as in `Case`
    sources: tuple[ref[Image], ...] = ()  # the layers, one for each of `arrays`

    @property
    def channels(self) -> int:
        """Number of channels."""
        if self.colors:
            return self.colors
        return len(self.arrays) if self.axes.channel is None else int(self.placement.shape[self.axes.channel])

    def at(self, time: int) -> LayerImage:
        """The same image with a single time point."""
        return replace(self, times=(time,))

    def case(self, spacing_mm: Spacing | None = None, time: int = 0) -> Case:
        """Read one time point as a case, channels (C, Z, Y, X) in file order.

        `spacing_mm` (Z, Y, X) is the spacing that the user states. Raises `CaseError` if the arrays can't be
        read, are empty or not finite.
        """
        try:
            channels = np.stack([part for array in self.arrays for part in self._channels(array, time)])
        except (OSError, ValueError, MemoryError) as error:
            raise CaseError(f"{self.name} can't be read: {error}") from error
        return self._case(channels, spacing_mm)

    def nonzero_box(self, time: int = 0) -> Box:
        """The box of the nonzero voxels of one time point, in file order, which is what a run crops the image to."""
        return bounding_box(nonzero_voxels(part for array in self.arrays for part in self._channels(array, time)))

    def outline(self, spacing_mm: Spacing | None = None) -> Case:
        """A case with the shape and spacing of one time point, but without intensities: enough to count tiles."""
        shape = [self.placement.shape[number] for number in self.axes.space]
        empty = self._in_file_order(np.broadcast_to(np.uint8(0), shape))
        return self._case(np.broadcast_to(empty, (self.channels, *empty.shape)), spacing_mm)

    def to_layer(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn labels (Z, Y, X) in file order into an array along the layer's spatial axes."""
        array = self.axes.order.apply(labels)
        return array[0] if self.axes.planar else array

    def box_in_layer(self, box: Box) -> tuple[slice, ...]:
        """Turn a box (Z, Y, X) in file order into slices along the layer's spatial axes."""
        order = self.axes.order
        parts = order.apply_box(box, order.unpermute(self._shape)).slices
        return parts[1:] if self.axes.planar else parts

    def box_in_file(self, part: Sequence[Side]) -> Box:
        """Turn start and stop along the layer's spatial axes into a box (Z, Y, X) in file order."""
        return self.axes.order.undo_box(Box(*((0, 1), *part)[-3:]), self._shape)

    @property
    def _shape(self) -> Triple:
        """Shape along the layer's spatial axes; a 2D layer has a first length of 1."""
        z, y, x = (1, *(self.placement.shape[number] for number in self.axes.space))[-3:]
        return z, y, x

    def from_labels(self, labels: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
        """Extract the labels (Z, Y, X), in file order, of the `number`-th time point from a labels array.

        Raises `CaseError` if the array has another shape than labels of this image.
        """
        wanted = self.placement.labels_shape(self.times)
        if labels.shape != wanted:
            raise CaseError(f"labels of shape {labels.shape} do not lie on {self.name}, whose labels have {wanted}")
        return self._in_file_order(labels[self.placement.index(number)])

    def _case(self, channels: npt.NDArray[Any], spacing_mm: Spacing | None) -> Case:
        spacing = planar_spacing(self.spacing_mm[1:]) if self.axes.planar else self.spacing_mm
        in_file = self.nifti.itk.spacing if self.nifti is not None else None
        case = Case(
            channels,
            spacing,
            self.affine,
            self.name,
            self.spacing_source,
            self.axes.planar,
            self.nifti,
            in_file if self.spacing_source is SpacingSource.USER else None,
            notes=self.notes,
        )
        return case if spacing_mm is None else case.with_spacing(spacing_mm)

    def _channels(self, array: Any, time: int) -> list[npt.NDArray[Any]]:
        """The channels in one array at one time point, each (Z, Y, X) in file order."""
        index: list[int | slice] = [slice(None)] * len(array.shape)
        if self.axes.time is not None:
            index[self.axes.time] = time
        # All channels at once, because a chunk of a lazy array may hold several.
        block = np.asarray(array[tuple(index)])
        channel = len(array.shape) - 1 if self.colors else self.axes.channel
        if channel is None:
            return [self._in_file_order(block)]
        place = channel - int(self.axes.time is not None and self.axes.time < channel)
        return [self._in_file_order(part) for part in np.moveaxis(block, place, 0)[: self.channels]]

    def _in_file_order(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn an array along the layer's spatial axes into (Z, Y, X) in file order."""
        return self.axes.order.undo(array[None] if self.axes.planar else array)


def image_from_layers(
    layers: Sequence[Image], *, axes: str | None = None, channels: int = 1, planar: bool = False
) -> LayerImage:
    """Take a snapshot of the layers for a model's channels, with all time points, without reading their data.

    There is one layer per channel, or one with all channels: an RGB layer, or one with a channel axis. `axes` are those
    of the layers, see `parse_axes`; None guesses them. `channels` is the number of channels of the model, 0 without a
    model. For a `planar` model, three axes may be C, Y and X.

    Raises `CaseError` if the layers are not images on one grid, and `SettingsError` if they can't have these axes.
    """
    if not layers:
        raise CaseError("no image layer is chosen; open an image first")
    for layer in layers:
        if not isinstance(layer, Image):
            raise CaseError(f"{getattr(layer, 'name', layer)!s} is not an image layer; choose one")
    first = layers[0]
    arrays = tuple(layer.data[0] if layer.multiscale else layer.data for layer in layers)
    notes = _check_one_grid(layers, arrays)
    shape = tuple(int(length) for length in arrays[0].shape[: first.ndim])
    geometry = source_geometry(first.metadata, first.scale, first.translate)
    alone = len(layers) == 1 and not first.rgb
    if axes is None:
        found, source = _found_axes(first, shape, geometry, channels if alone else 1, planar)
    else:
        found, source = parse_axes(axes, shape), "as typed"
    if found.channel is not None and not alone:
        raise CaseError(
            f"{first.name}: the axes {found} have one for channels, but the channels are layers of their own; "
            "choose one layer for all channels, or name the axis T"
        )
    spacing, spacing_source, note = layer_spacing(first, found, geometry)
    affine, nifti = _in_file(found, spacing, geometry, shape)
    return LayerImage(
        name=first.name,
        arrays=arrays,
        colors=_colors(first.name, arrays[0].shape, channels) if first.rgb else 0,
        axes=found,
        axes_source=source,
        times=(0,) if found.time is None else tuple(range(shape[found.time])),
        spacing_mm=spacing,
        spacing_source=spacing_source,
        spacing_note=note,
        affine=affine,
        nifti=nifti,
        placement=layer_placement(first, found, shape),
        metadata=dict(first.metadata),
        notes=notes,
        sources=tuple(ref(layer) for layer in layers),
    )


def _colors(name: str, shape: tuple[int, ...], channels: int) -> int:
    """Number of channels to take from a layer that napari shows in colours."""
    if channels == shape[-1] == 4:
        return 4
    if channels not in (0, 3) and (shape[-1] == 4 or len(shape) > 3):
        raise CaseError(
            f"napari shows the last axis of {name}, of shape {shape}, as colours, but the model has {channels} "
            f"channel(s); open it again with viewer.add_image(viewer.layers[{name!r}].data, rgb=False) in its console"
        )
    return 3


def _found_axes(
    layer: Image, shape: tuple[int, ...], geometry: SourceGeometry | None, channels: int, planar: bool
) -> tuple[Axes, str]:
    """The probable axes of a layer, and their source for the user."""
    known = None if geometry is None else geometry.names
    axes, told = guess_axes(shape, known=known, labels=layer.axis_labels, channels=channels, planar=planar)
    if not told:
        return axes, "assumed"
    return axes, "from the layer's axis labels" if geometry is None else f"from {geometry.source}"


def _check_one_grid(layers: Sequence[Image], arrays: Sequence[Any]) -> tuple[str, ...]:
    """Return notes for the user, or raise `CaseError` if the layers can't be channels of one image."""
    first, notes = layers[0], []
    for layer, array in zip(layers, arrays, strict=True):
        if layer.rgb and len(layers) > 1:
            raise CaseError(f"{layer.name} is an RGB layer, which holds all channels; choose it alone or split it")
        if not 2 <= layer.ndim <= 5:
            raise CaseError(
                f"{layer.name} has {layer.ndim} axes {array.shape}; T, C, Z, Y, X are the most there can be: "
                "make a layer of a part of it"
            )
        if layer.ndim != first.ndim or layer.units != first.units:
            raise CaseError(f"{first.name} and {layer.name} have different axes or units; make them the same first")
        if array.shape != arrays[0].shape:
            raise CaseError(f"channels differ in shape: {first.name} {arrays[0].shape}, {layer.name} {array.shape}")
        places = [np.vstack([data_to_world(one), np.eye(first.ndim + 1)[-1]]) for one in (first, layer)]
        apart = voxels_apart(places[0], places[1], arrays[0].shape[: first.ndim])
        note = check_apart(apart, first.name, layer.name)
        if note is not None:
            notes.append(note)
    return tuple(notes)


def _in_file(
    axes: Axes, spacing_mm: Spacing, geometry: SourceGeometry | None, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float64] | None, NiftiSpace | None]:
    """The file's affine (4, 4) to RAS+ mm, from the user's directions or else the file's header, and this header."""
    if axes.anatomical:
        return axes.affine(spacing_mm), None
    if geometry is None or axes.planar:
        return None, None
    if axes.space != tuple(number for number, name in enumerate(geometry.names) if name is not None):
        return None, None
    if geometry.nifti is not None and axes.names == geometry.names:
        return geometry.nifti.itk.affine, geometry.nifti
    return source_affine(geometry.affine, axes.order, tuple(shape[number] for number in axes.space)), None
