"""Uncertainty in the viewer: a layer on the labels, and the way through its slices, the most uncertain first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image

from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.viewer.foreground import add_unselected
from napari_nnunet_cpu.viewer.image.layers import LayerImage
from napari_nnunet_cpu.viewer.image.view_state import voxel_shown
from napari_nnunet_cpu.viewer.results.layer_result import LayerResult
from napari_nnunet_cpu.viewer.results.origin import bind, origin_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

# A slice is as uncertain as this share of its voxels that is most so.
_SHARE = 0.01

# What is gone through: the axis of the uncertainty layer, and where the other sliders stand.
View = tuple[int, tuple[int, ...]]


def add_uncertainty(viewer: ViewerModel, result: LayerResult, image: LayerImage, visible: bool = True) -> Image:
    """Add the uncertainty of a result to a viewer, on top, not selected.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Where the layers are.
    result : LayerResult
        With uncertainty.
    image : LayerImage
        What it was made from: the layer lies exactly on it.
    visible : bool
        Whether the layer is shown.

    Returns
    -------
    Image
        Dark and see-through where labels are sure.

    Raises
    ------
    CaseError
        When the result has no uncertainty.
    """
    if result.uncertainty is None:
        raise CaseError(f'{image.name} was segmented without uncertainty; run with Settings(uncertainty="margin")')
    layer = Image(
        result.uncertainty,
        name=f"{image.name} uncertainty (uncalibrated)",
        colormap="magma",
        blending="additive",
        contrast_limits=(0, 1),
        visible=visible,
        metadata=image.metadata | {"nnunet": result.provenance},
        **image.placement.labels_transforms(image.times),
    )
    bind(layer, result.origin)
    add_unselected(viewer, layer)
    return layer


def uncertainty_layer_of(viewer: ViewerModel, layer: Layer | None) -> Image | None:
    """The layer of uncertainty that was made together with these labels, or is this one; None where there is none."""
    origin = None if layer is None else origin_of(layer)
    shown = (other for other in viewer.layers if isinstance(other, Image))
    return None if origin is None else next((other for other in shown if origin_of(other) is origin), None)


class UncertainSlices:
    """The slices of an uncertainty layer along the axis that the viewer's slider moves along, the most uncertain first.

    How uncertain a slice is, is the mean of the hundredth of its voxels that is most so. That needs no labels, so that
    what was missed counts; sure background does not count, however much of it there is; and one voxel alone is not
    enough to come first. All slices are judged by as many voxels, and of two with small objects the one with more
    uncertain voxels comes first.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Whose slider is moved. Slices on which it stands are visited, whoever moved it there.
    layer : Image
        Of `add_uncertainty`.

    Notes
    -----
    What is visited is remembered for each axis, and for each time point of a series.
    """

    def __init__(self, viewer: ViewerModel, layer: Image) -> None:
        self._viewer = viewer
        self._layer = layer
        self._orders: dict[View, list[int]] = {}
        self._visited: dict[View, set[int]] = {}
        for emitter in self._emitters:
            emitter.connect(self._look)
        self._look()

    @property
    def order(self) -> tuple[int, ...]:
        """The slices along the slider's axis, most uncertain first; without those without any uncertainty.

        Raises
        ------
        CaseError
            When the layer is shown whole, so that there are no slices.
        """
        return tuple(self._order(self._view_or_refuse()))

    @property
    def left(self) -> int:
        """How many of them are not visited; 0 says that all are.

        Raises
        ------
        CaseError
            When the layer is shown whole, so that there are no slices.
        """
        view = self._view_or_refuse()
        return len(set(self._order(view)) - self._visited.get(view, set()))

    def next(self) -> int | None:
        """Move the slider to the most uncertain slice that is not visited yet.

        Returns
        -------
        int or None
            Its number in the layer; None, and the slider stays, when all are visited.

        Raises
        ------
        CaseError
            When the layer is shown whole, so that there are no slices.
        """
        view = self._view_or_refuse()
        visited = self._visited.setdefault(view, set())
        found = next((number for number in self._order(view) if number not in visited), None)
        if found is not None:
            self._move(view[0], found)
            visited.add(found)
        return found

    def close(self) -> None:
        """Hear of the slider no longer."""
        for emitter in self._emitters:
            emitter.disconnect(self._look)

    @property
    def _emitters(self) -> tuple[Any, ...]:
        events = self._viewer.dims.events
        return events.point, events.order, events.ndisplay

    @property
    def _first(self) -> int:
        """The viewer's axis that is the layer's first."""
        return int(self._viewer.dims.ndim) - int(self._layer.ndim)

    def _view(self) -> tuple[View, int] | None:
        """What is gone through, and the slice of it on which the slider stands; None where there is no slider."""
        moved = [axis - self._first for axis in self._viewer.dims.not_displayed if axis >= self._first]
        shape = self._layer.data.shape
        moved = [axis for axis in moved if shape[axis] > 1]
        if not moved:
            return None
        point = voxel_shown(self._viewer, self._layer)
        places = [min(max(round(point[axis]), 0), shape[axis] - 1) for axis in moved]
        return (moved[-1], tuple(places[:-1])), round(point[moved[-1]])

    def _view_or_refuse(self) -> View:
        found = self._view()
        if found is None:
            raise CaseError(f"{self._layer.name} is shown whole, not in slices; show it in 2D, where it has several")
        return found[0]

    def _look(self, _: Any = None) -> None:
        """Take note of the slice that is shown."""
        found = self._view()
        if found is not None:
            self._visited.setdefault(found[0], set()).add(found[1])

    def _order(self, view: View) -> list[int]:
        if view not in self._orders:
            uncertainty = self._slices(view)
            scores = np.array([_uncertainty_of(part) for part in uncertainty])
            self._orders[view] = [int(place) for place in np.argsort(-scores, kind="stable") if scores[place] > 0]
        return self._orders[view]

    def _slices(self, view: View) -> npt.NDArray[np.float32]:
        """The uncertainty with the axis that is gone through first, where the other sliders stand."""
        axis, places = view
        others = iter(places)
        index: list[int | slice] = []
        for number, length in enumerate(self._layer.data.shape):
            shown = number == axis or number + self._first in self._viewer.dims.displayed or length == 1
            index.append(slice(None) if shown else next(others))
        part = self._layer.data[tuple(index)]
        dropped = sum(isinstance(place, int) for place in index[:axis])
        return np.moveaxis(np.asarray(part), axis - dropped, 0)

    def _move(self, axis: int, number: int) -> None:
        """Let the slider stand on a slice of the layer."""
        point = np.array(voxel_shown(self._viewer, self._layer), dtype=float)
        point[axis] = number
        place = float(self._layer.data_to_world(point)[axis])
        units = self._viewer.dims.units
        if units is not None and len(units) >= self._layer.ndim:  # the viewer may count in another unit
            own, world = self._layer.units[axis], units[axis - self._layer.ndim]
            place *= float((1 * own).to(world).magnitude)
        self._viewer.dims.set_point(axis + self._first, place)


def _uncertainty_of(part: npt.NDArray[np.float32]) -> float:
    """The mean of the most uncertain voxels of a slice."""
    count = max(round(_SHARE * part.size), 1)
    return float(np.partition(part.ravel(), part.size - count)[part.size - count :].mean())
