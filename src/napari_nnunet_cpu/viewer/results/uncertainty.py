"""Uncertainty in the viewer: its layer, and a walk through its slices, the most uncertain first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image

from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.viewer.foreground import add_unselected
from napari_nnunet_cpu.viewer.image import LayerImage, viewer_units, voxel_shown
from napari_nnunet_cpu.viewer.results.layer_result import LayerResult
from napari_nnunet_cpu.viewer.results.origin import bind, origin_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

# The uncertainty of a slice is the mean over this share of its voxels, the most uncertain ones.
_SHARE = 0.01

# The axis of the uncertainty layer to walk along, and the positions of the other sliders.
View = tuple[int, tuple[int, ...]]


def add_uncertainty(viewer: ViewerModel, result: LayerResult, image: LayerImage, visible: bool = True) -> Image:
    """Add the uncertainty of a result to a viewer, on top, unselected: transparent where labels are certain.

    Raises `CaseError` if the result has no uncertainty.
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
    """The uncertainty layer with the same origin as a layer of labels (or that layer itself); None without one."""
    origin = None if layer is None else origin_of(layer)
    shown = (other for other in viewer.layers if isinstance(other, Image))
    return None if origin is None else next((other for other in shown if origin_of(other) is origin), None)


class UncertainSlices:
    """The slices of an uncertainty layer along the viewer's slider, the most uncertain first.

    The uncertainty of a slice is the mean of its most uncertain hundredth of voxels. It needs no labels, so missed
    objects count. Certain background does not count, however large it is, and a single voxel is not enough to come
    first. All slices are judged by the same number of voxels, so of two slices with small objects the one with more
    uncertain voxels comes first.

    A slice counts as visited once the slider stood on it. Visits are remembered per axis and per time point.
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
        """The slices along the slider's axis that have any uncertainty, the most uncertain first.

        Raises `CaseError` if the layer is shown as a whole, so that there are no slices.
        """
        return tuple(self._order(self._view_or_refuse()))

    @property
    def left(self) -> int:
        """The number of slices that were not visited yet.

        Raises `CaseError` if the layer is shown as a whole, so that there are no slices.
        """
        view = self._view_or_refuse()
        return len(set(self._order(view)) - self._visited.get(view, set()))

    def next(self) -> int | None:
        """Move the slider to the most uncertain unvisited slice and return its index; None if all are visited.

        Raises `CaseError` if the layer is shown as a whole, so that there are no slices.
        """
        view = self._view_or_refuse()
        visited = self._visited.setdefault(view, set())
        found = next((number for number in self._order(view) if number not in visited), None)
        if found is not None:
            self._move(view[0], found)
            visited.add(found)
        return found

    def close(self) -> None:
        """Stop listening to the slider."""
        for emitter in self._emitters:
            emitter.disconnect(self._look)

    @property
    def _emitters(self) -> tuple[Any, ...]:
        events = self._viewer.dims.events
        return events.point, events.order, events.ndisplay

    @property
    def _first(self) -> int:
        """The viewer's axis that corresponds to the layer's first axis."""
        return int(self._viewer.dims.ndim) - int(self._layer.ndim)

    def _view(self) -> tuple[View, int] | None:
        """The present view, and the index of the slice on screen; None without a slider."""
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
        """Mark the slice on screen as visited."""
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
        """The uncertainty at the positions of the other sliders, with the axis of the view first."""
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
        """Move the slider to a slice of the layer."""
        point = np.array(voxel_shown(self._viewer, self._layer), dtype=float)
        point[axis] = number
        place = self._layer.data_to_world(point)[axis] * viewer_units(self._viewer, self._layer)[axis]
        self._viewer.dims.set_point(axis + self._first, float(place))


def _uncertainty_of(part: npt.NDArray[np.float32]) -> float:
    """The mean of the most uncertain voxels of a slice."""
    count = max(round(_SHARE * part.size), 1)
    return float(np.partition(part.ravel(), part.size - count)[part.size - count :].mean())
