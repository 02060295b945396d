"""The time points of a layer, one after the other, and their labels together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.errors import CaseError, SettingsError
from napari_nnunet_cpu.events import Event
from napari_nnunet_cpu.models import Model
from napari_nnunet_cpu.predict import Result, stages
from napari_nnunet_cpu.settings import Settings
from napari_nnunet_cpu.viewer.layers import LayerImage

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_nnunet_cpu.cases.case import Spacing


@dataclass(frozen=True, eq=False)
class LayerResult:
    """Labels of a layer.

    Attributes
    ----------
    labels : numpy.ndarray
        On the layer's own grid: its axes of space, with time where it has one, without channels.
    label_names : dict of int to str
        Name of every value, background included.
    provenance : dict
        As in `Result`; of several time points the tiles, seconds and runs of all.
    first_stage : LayerResult or None
        Of a cascade: what its first stage gave, where it was run.
    """

    labels: npt.NDArray[Any]
    label_names: dict[int, str]
    provenance: dict[str, Any]
    first_stage: LayerResult | None = None


def segment_times(
    image: LayerImage,
    model: Model,
    settings: Settings,
    spacing_mm: Spacing | None,
    should_stop: Callable[[], bool] = lambda: False,
    first_stage: npt.NDArray[Any] | None = None,
) -> Generator[Event, None, LayerResult | None]:
    """Segment an image's time points; only one of them is in memory at a time.

    Parameters
    ----------
    image : LayerImage
        What to segment: its `times`.
    model, settings, should_stop
        As `stages` takes them.
    spacing_mm : tuple of float or None
        Spacing (Z, Y, X) that the user states.
    first_stage : numpy.ndarray, optional
        For cascades: labels of the first stage on the grid of the labels layer, instead of running it.

    Yields
    ------
    Event
        What `stages` yields; where there are several time points, each event says of which.

    Returns
    -------
    LayerResult or None
        None when it was stopped.

    Raises
    ------
    CaseError, ModelError, DeviceError, EngineError
        When something does not fit or fails.
    """
    parts = LayerLabels(image)
    for number, time in enumerate(image.times):
        given = None if first_stage is None else image.from_labels(first_stage, number)
        steps = stages(image.case(spacing_mm, time), model, settings, should_stop, given)
        if len(image.times) > 1:
            steps = _named(steps, f"time point {number + 1} of {len(image.times)}")
        result = yield from steps
        if result is None:
            return None
        parts.add(result)
        del steps, result, given  # and with them the image of this time point, before the next is read
    return parts.result()


class LayerLabels:
    """Results of time points, put together on the layer's grid.

    Parameters
    ----------
    image : LayerImage
        What they are made from.
    """

    def __init__(self, image: LayerImage) -> None:
        self._image = image
        self._labels: npt.NDArray[Any] | None = None
        self._names: dict[int, str] = {}
        self._provenance: list[dict[str, Any]] = []
        self._first_stage: LayerLabels | None = None

    def add(self, result: Result) -> None:
        """Take the labels (Z, Y, X), in file order, of the next time point."""
        placement, number = self._image.placement, len(self._provenance)
        if self._labels is None:
            self._labels = np.zeros(placement.labels_shape(self._image.times), dtype=result.labels.dtype)
        self._labels[placement.index(number)] = self._image.to_layer(result.labels)
        self._names = result.label_names
        self._provenance.append(result.provenance)
        if result.first_stage is not None:
            self._first_stage = self._first_stage or LayerLabels(self._image)
            self._first_stage.add(result.first_stage)

    def result(self) -> LayerResult:
        """The labels of all; at least one was added.

        Raises
        ------
        CaseError
            When none was added.
        """
        if self._labels is None:
            raise CaseError(f"{self._image.name} has no time points; choose another layer")
        provenance = dict(self._provenance[0])
        if len(self._provenance) > 1:
            seconds: Counter[str] = Counter()
            for part in self._provenance:
                seconds.update(part["seconds"])
            provenance["seconds"] = {name: round(total, 3) for name, total in seconds.items()}
            for name in ("tiles", "tiles_done", "passes"):
                provenance[name] = sum(part[name] for part in self._provenance)
            provenance["runs"] = [run for part in self._provenance for run in part["runs"]]
        about: dict[str, Any] = {"axes": str(self._image.axes)}
        if self._image.axes.time is not None:
            about["time_points"] = list(self._image.times)
        provenance["image"] = provenance["image"] | about
        first = None if self._first_stage is None else self._first_stage.result()
        return LayerResult(self._labels, self._names, provenance, first)


def at_time(image: LayerImage, time: int | str, viewer: ViewerModel, layer: Image) -> LayerImage:
    """The image for a run on what was chosen of its time points.

    Parameters
    ----------
    image : LayerImage
        With all of them.
    time : int or {"current", "all"}
        One by its number, the one that the viewer shows, or all.
    viewer : napari.Viewer or napari.components.ViewerModel
        Whose slider is asked.
    layer : Image
        What `image` is a snapshot of.

    Raises
    ------
    CaseError
        When there is no such time point.
    SettingsError
        When `time` is something else.
    """
    axis = image.axes.time
    if time != "all" and time != "current" and (isinstance(time, bool) or not isinstance(time, int)):
        raise SettingsError(f'time is {time!r}; give the number of a time point, "current" or "all"')
    if axis is None or time == "all" or (time == "current" and len(image.times) == 1):
        return image
    index = _shown(viewer, layer, axis) if time == "current" else int(time)
    if index not in image.times:
        where = "the viewer stands at" if time == "current" else "there is no"
        raise CaseError(
            f"{where} time point {index}, but {image.name} has {len(image.times)}, from 0; choose one of them"
        )
    return image.at(index)


def _shown(viewer: ViewerModel, layer: Image, axis: int) -> int:
    """Number of the voxel along an axis of the layer at which the viewer's sliders stand."""
    last = [float(value) for value in viewer.dims.point][-layer.ndim :]
    point = [0.0] * (layer.ndim - len(last)) + last
    # The viewer may count in another unit than the layer; napari then agrees on one for all layers.
    units = viewer.dims.units
    if units is not None and len(units) >= layer.ndim:
        point = [
            value * float((1 * world).to(own).magnitude)
            for value, world, own in zip(point, units[-layer.ndim :], layer.units, strict=True)
        ]
    return round(float(layer.world_to_data(point)[axis]))


def _named(steps: Generator[Event, None, Result | None], name: str) -> Generator[Event, None, Result | None]:
    """The steps, whose events say of which time point they are."""
    try:
        while True:
            event = next(steps)
            yield replace(event, part=f"{name}, {event.part}" if event.part else name)
    except StopIteration as end:
        result: Result | None = end.value
        return result
    finally:
        steps.close()
