"""The segmentation of a layer: its time points one after the other, and their final labels."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.events import Event, TileDone
from napari_nnunet_cpu.models import Model, TrainedModel, members_of
from napari_nnunet_cpu.predict import Result, RunControl, RunFiles, Segmentation
from napari_nnunet_cpu.settings import Settings
from napari_nnunet_cpu.viewer.image import LayerImage
from napari_nnunet_cpu.viewer.results import LayerLabels, LayerResult, Origin

if TYPE_CHECKING:
    from napari_nnunet_cpu.cases import Spacing


@dataclass(frozen=True, eq=False)
class FinalLabels:
    """Final labels of a part of the layer."""

    place: tuple[int | slice, ...]  # index of the part in the labels layer
    labels: npt.NDArray[Any]  # with an axis for each slice in the index


LayerEvent = Event | FinalLabels


class LayerSegmentation:
    """Segments the time points of an image, with only one of them in memory at a time.

    It is a `Segmentation` of a layer, with the same parameters. Box, focus and selection are in file order, and labels
    of a `first_stage` are on the grid of the labels layer. `spacing_mm` (Z, Y, X) is a spacing that the user states.
    The `files` of all time points stay until the end, because the labels are only in memory.
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
        folder: Path | Callable[[], Path | None] | None = None,
    ) -> None:
        self.image = image
        self.control = RunControl()
        self.files = RunFiles()
        self.result: LayerResult | None = None
        self._model = model
        self._settings = settings
        self._spacing_mm = spacing_mm
        self._first_stage = first_stage
        self._any_order = any_order
        self._folder = folder
        self._parts = LayerLabels(image)
        self._active: Segmentation | None = None  # of the next time point

    def steps(self) -> Generator[LayerEvent, None, None]:
        """Compute the remaining time points and tiles, and set `result`.

        Yields the events of `Segmentation.steps`, which name their time point if there are several, and `FinalLabels`.
        After a stop, another call resumes. Raises the errors of `Segmentation`.
        """
        self.result = None
        several = len(self.image.times) > 1
        for number in range(self._parts.count, len(self.image.times)):
            if self._active is None:
                self._active = self._begin(number)
            active = self._active
            with closing(active.steps()) as events:
                for event in events:
                    if isinstance(event, TileDone) and active.run is not None:
                        yield from self._final_labels(event, active.run.final_labels, number)
                    if several:
                        name = f"time point {number + 1} of {len(self.image.times)}"
                        event = replace(event, part=f"{name}, {event.part}" if event.part else name)
                    yield event
            if active.result is None:
                return
            if not several:  # because more of its tiles may be chosen later
                self.result = self._single(active.result)
                return
            self._parts.add(active.result)
            self._active = None
            del active  # so that its memory is freed before the next time point is read
        self.result = self._with_origin(self._parts)

    def partial(self) -> LayerResult | None:
        """The final labels of a single time point, or the finished ones of several; None before there are any."""
        if len(self.image.times) > 1:
            return self._with_origin(self._parts) if self._parts.count else None
        found = None if self._active is None else self._active.partial()
        return None if found is None else self._single(found)

    def close(self) -> None:
        """Unlock the run files for other runs."""
        if self._active is not None:
            self._active.close()
        self.files.close()

    def _begin(self, number: int) -> Segmentation:
        """The segmentation of a time point, whose voxels are read here."""
        image = self.image
        return Segmentation(
            image.case(self._spacing_mm, image.times[number]),
            self._model,
            self._settings,
            None if self._first_stage is None else image.from_labels(self._first_stage, number),
            any_order=self._any_order,
            folder=self._folder() if callable(self._folder) else self._folder,
            control=self.control,
            files=self.files,
        )

    def _final_labels(self, event: TileDone, labels: npt.NDArray[Any], number: int) -> Iterator[FinalLabels]:
        """Copies of the boxes that became final, on the grid of the layer."""
        on_layer = self.image.to_layer(labels)
        for box in event.final:
            part = self.image.box_in_layer(box)
            yield FinalLabels(self.image.placement.index(number, part), np.array(on_layer[part]))

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
