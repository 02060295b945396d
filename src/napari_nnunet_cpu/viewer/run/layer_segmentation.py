"""The segmentation of a layer: its time points one after the other, and their final labels."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.events import Event, TileDone
from napari_nnunet_cpu.models import Model, TrainedModel, members_of
from napari_nnunet_cpu.predict import Focus, Result, Segmentation
from napari_nnunet_cpu.predict.resume.run_file import RunFile
from napari_nnunet_cpu.settings import Settings
from napari_nnunet_cpu.viewer.image.layers import LayerImage
from napari_nnunet_cpu.viewer.results.layer_result import LayerLabels, LayerResult
from napari_nnunet_cpu.viewer.results.origin import Origin

if TYPE_CHECKING:
    from napari_nnunet_cpu.cases.case import Spacing


@dataclass(frozen=True, eq=False)
class FinalLabels:
    """Final labels of a part of the layer.

    Attributes
    ----------
    place : tuple
        Index of the part in the labels layer.
    labels : numpy.ndarray
        One axis for each slice in the index.
    """

    place: tuple[int | slice, ...]
    labels: npt.NDArray[Any]


LayerEvent = Event | FinalLabels


class LayerSegmentation:
    """Segments the time points of an image, with only one of them in memory at a time.

    Parameters
    ----------
    model, settings, any_order, folder
        See `Segmentation`; a box is in file order.
    spacing_mm : tuple of float or None
        Spacing (Z, Y, X) that the user states.
    first_stage : numpy.ndarray, optional
        For cascades: labels of the first stage on the grid of the labels layer, instead of running it.

    Attributes
    ----------
    focus : Focus or None
        The focus, in file order; any thread may set it at any time.
    """

    def __init__(
        self,
        image: LayerImage,
        model: Model,
        settings: Settings,
        spacing_mm: Spacing | None = None,
        first_stage: npt.NDArray[Any] | None = None,
        *,
        any_order: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.image = image
        self._model = model
        self._settings = settings
        self._spacing_mm = spacing_mm
        self._first_stage = first_stage
        self._any_order = any_order
        self._folder = folder
        self._focus: Focus | None = None
        self._parts = LayerLabels(image)
        self._active: Segmentation | None = None  # of the next time point
        self._files: list[RunFile] = []  # of earlier time points

    @property
    def focus(self) -> Focus | None:
        """The focus, in file order."""
        return self._focus

    @focus.setter
    def focus(self, focus: Focus | None) -> None:
        self._focus = focus
        if self._active is not None:
            self._active.focus = focus

    @property
    def saving_problem(self) -> str | None:
        """Why the run is no longer saved, for the user; None if it is saved, or was not to be saved."""
        files = [*self._files, *(() if self._active is None else self._active.files)]
        return next((file.problem for file in files if file.problem is not None), None)

    def choose(self, box: Box | None, cover: bool) -> None:
        """Choose other tiles for unfinished time points, see `Segmentation.choose`.

        Raises `SettingsError` if they can't be chosen.
        """
        if self._active is not None:
            self._active.choose(box, cover)
        self._settings = replace(self._settings, box=box, cover=cover)

    def steps(self, should_stop: Callable[[], bool] = lambda: False) -> Generator[LayerEvent, None, LayerResult | None]:
        """Compute the remaining time points and tiles, and return the result; None if it was stopped.

        `should_stop` is asked before every pass. Finished tiles are kept, so a further call goes on from there. Yields
        the events of `Segmentation.steps`, and labels that became final. With several time points, each event names
        its time point. Raises `CaseError`, `ModelError`, `DeviceError` or `EngineError`.
        """
        image = self.image
        several = len(image.times) > 1
        for number in range(self._parts.count, len(image.times)):
            if self._active is None:
                given = None if self._first_stage is None else image.from_labels(self._first_stage, number)
                self._active = Segmentation(
                    image.case(self._spacing_mm, image.times[number]),
                    self._model,
                    self._settings,
                    given,
                    any_order=self._any_order,
                    folder=self._folder,
                )
                del given  # so that these labels are freed before the next time point is read
            active = self._active
            active.focus = self._focus
            result = yield from self._part(active, should_stop, number, several)
            if result is None:
                return None
            if not several:  # because more of its tiles may be chosen later
                return self._single(result)
            self._parts.add(result)
            self._files += active.files  # kept, because the labels are only in memory
            self._active = None
            del active, result
        return self._with_origin(self._parts)

    def partial(self) -> LayerResult | None:
        """The final labels of a single time point, or the finished ones of several; None before there are any."""
        if len(self.image.times) > 1:
            return self._with_origin(self._parts) if self._parts.count else None
        found = None if self._active is None else self._active.partial()
        return None if found is None else self._single(found)

    def forget_saved(self) -> None:
        """Remove the run files, because the labels have reached their layer."""
        if self._active is not None:
            self._active.forget_saved()
        for file in self._files:
            file.remove()

    def close(self) -> None:
        """Unlock the run files for other runs."""
        if self._active is not None:
            self._active.close()
        for file in self._files:
            file.close()

    def _single(self, result: Result) -> LayerResult:
        """The result of a single time point."""
        parts = LayerLabels(self.image)
        parts.add(result)
        return self._with_origin(parts)

    def _with_origin(self, parts: LayerLabels) -> LayerResult:
        """The result, with its origin."""

        def with_origin(result: LayerResult, model: TrainedModel) -> LayerResult:
            provenance = result.provenance | {"id": uuid4().hex}
            origin = Origin(parts.image, model, self._spacing_mm, provenance)
            return replace(result, provenance=provenance, origin=origin)

        result, model = parts.result(), members_of(self._model)[0]
        if result.first_stage is not None and model.first_stage is not None:
            result = replace(result, first_stage=with_origin(result.first_stage, model.first_stage))
        return with_origin(result, model)

    def _part(
        self, active: Segmentation, should_stop: Callable[[], bool], number: int, several: bool
    ) -> Generator[LayerEvent, None, Result | None]:
        """The steps of one time point, with its final labels."""
        name = f"time point {number + 1} of {len(self.image.times)}" if several else ""
        steps = active.steps(should_stop)
        try:
            while True:
                event = next(steps)
                if isinstance(event, TileDone) and active.run is not None:
                    labels = self.image.to_layer(active.run.final_labels)
                    for box in event.final:
                        part = self.image.box_in_layer(box)
                        yield FinalLabels(self.image.placement.index(number, part), np.array(labels[part]))
                if several:
                    event = replace(event, part=f"{name}, {event.part}" if event.part else name)
                yield event
        except StopIteration as end:
            result: Result | None = end.value
            return result
        finally:
            steps.close()
