"""The part of an image that the viewer shows: point and slice, time point, box in view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.errors import CaseError, SettingsError
from napari_nnunet_cpu.predict import Focus
from napari_nnunet_cpu.viewer.image.layers import LayerImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Layer


def at_time(image: LayerImage, time: int | str, viewer: ViewerModel, layer: Image) -> LayerImage:
    """The image with the chosen time points.

    `time` is the number of a time point, "current" for the one on screen, or "all"; `layer` is the source of `image`.
    Raises `CaseError` if there is no such time point, and `SettingsError` for another value.
    """
    axis = image.axes.time
    if time != "all" and time != "current" and (isinstance(time, bool) or not isinstance(time, int)):
        raise SettingsError(f'time is {time!r}; give the number of a time point, "current" or "all"')
    if axis is None and not isinstance(time, str):
        raise CaseError(f"{image.name} has no time, only the axes {image.axes}; leave the time point {time} out")
    if axis is None or time == "all" or (time == "current" and len(image.times) == 1):
        return image
    index = round(voxel_shown(viewer, layer)[axis]) if time == "current" else int(time)
    if index not in image.times:
        where = "the viewer stands at" if time == "current" else "there is no"
        raise CaseError(
            f"{where} time point {index}, but {image.name} has {len(image.times)}, from 0; choose one of them"
        )
    return image.at(index)


def focus_of(viewer: ViewerModel, layer: Layer, image: LayerImage) -> Focus:
    """The focus of a viewer on an image: the middle of the canvas, and the slice on screen, if any.

    `layer` lies on the grid of the image. It may have been removed from the viewer.
    """
    point = voxel_shown(viewer, layer, centre=True)
    part = [(place, place + 1) for place in (round(point[axis]) for axis in image.axes.space)]
    voxel = image.box_in_file(part).start
    if viewer.dims.ndisplay == 3:
        return Focus(voxel)
    first = viewer.dims.ndim - layer.ndim  # the layer's axes are the last of the viewer's
    hidden = {axis - first for axis in viewer.dims.not_displayed}
    across = [number for number, axis in enumerate(image.axes.space) if axis in hidden]
    if image.axes.planar or not across:  # a plane is a volume of one slice
        return Focus(voxel, None if across else 0)
    return Focus(voxel, image.axes.order.axes[across[0]])


def box_in_view(viewer: ViewerModel, layer: Image, image: LayerImage) -> Box:
    """The box of an image that is in view, in file order: of the slice on screen, or in 3D of the volume.

    Raises `CaseError` if nothing of it is in view.
    """
    low, high = np.asarray(layer.corner_pixels, dtype=float)
    point = voxel_shown(viewer, layer)
    first = viewer.dims.ndim - layer.ndim
    part = []
    for axis in image.axes.space:
        length = image.placement.shape[axis]
        if axis + first in viewer.dims.displayed:
            start, stop = int(low[axis]), int(high[axis]) + 1
        else:
            start, stop = round(point[axis]), round(point[axis]) + 1
        start, stop = max(start, 0), min(stop, length)
        if start >= stop:
            raise CaseError(f"nothing of {image.name} is in view; go to a slice of it, or choose another part")
        part.append((start, stop))
    return image.box_in_file(part)


def box_of_shapes(shapes: Layer, layer: Image, image: LayerImage) -> Box:
    """The box around the shapes of a layer, in file order; only the selected shapes, if any are selected.

    Along axes in which the shapes are flat, it covers the whole image. Raises `CaseError` if there are no shapes, or
    none on the image.
    """
    chosen = sorted(shapes.selected_data) or range(len(shapes.data))
    corners = [np.asarray(shapes.data_to_world(vertex)) for number in chosen for vertex in shapes.data[number]]
    if not corners:
        raise CaseError(f"{shapes.name} has no shapes; draw a rectangle around the part to segment")
    missing = layer.ndim - shapes.ndim  # axes that only the image has; the shapes extend through them
    points = np.array([layer.world_to_data([*[0.0] * max(missing, 0), *corner][-layer.ndim :]) for corner in corners])
    part = []
    for axis in image.axes.space:
        length = image.placement.shape[axis]
        low, high = points[:, axis].min(), points[:, axis].max()
        start, stop = max(round(low), 0), min(round(high) + 1, length)
        if axis < missing or high - low < 0.5:  # flat
            start, stop = 0, length
        if start >= stop:
            raise CaseError(f"the shapes in {shapes.name} lie beside {image.name}; draw a rectangle on it")
        part.append((start, stop))
    return image.box_in_file(part)


def voxel_shown(viewer: ViewerModel, layer: Layer, centre: bool = False) -> Sequence[float]:
    """The voxel of a layer at the viewer's sliders; with `centre`, at the middle of the canvas along its axes."""
    places = [float(value) for value in viewer.dims.point]
    if centre:
        middle = viewer.scene.camera.center[-len(viewer.dims.displayed) :]
        for axis, place in zip(viewer.dims.displayed, middle, strict=True):
            places[axis] = float(place)
    last = places[-layer.ndim :]
    point = np.array([0.0] * (layer.ndim - len(last)) + last)
    found: Sequence[float] = layer.world_to_data(point / viewer_units(viewer, layer))
    return found


def viewer_units(viewer: ViewerModel, layer: Layer) -> npt.NDArray[np.float64]:
    """The unit of the layer in units of the viewer, along each axis of the layer.

    The viewer has one unit for all layers, which may differ from the layer's.
    """
    units = viewer.dims.units
    if units is None or len(units) < layer.ndim:
        return np.ones(layer.ndim)
    pairs = zip(layer.units, units[-layer.ndim :], strict=True)
    return np.array([float((1 * own).to(world).magnitude) for own, world in pairs])
