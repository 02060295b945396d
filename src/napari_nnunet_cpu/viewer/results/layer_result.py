"""The labels of a layer, assembled from those of its time points."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.predict import Result
from napari_nnunet_cpu.viewer.image import LayerImage
from napari_nnunet_cpu.viewer.results.origin import Origin, checksum


@dataclass(frozen=True, eq=False)
class LayerResult:
    """The labels of a layer."""

    labels: npt.NDArray[Any]  # on the layer's grid: its spatial axes, with time if it has one, without channels
    label_names: dict[int, str]  # by value, background included
    provenance: dict[str, Any]  # as in `Result`, with the tiles, seconds and runs of all time points
    first_stage: LayerResult | None = None  # of a cascade, if the run computed it
    uncertainty: npt.NDArray[np.float32] | None = None  # in [0, 1], uncalibrated, on the grid of the labels
    origin: Origin | None = None


class LayerLabels:
    """Assembles the results of time points on the grid of their layer."""

    def __init__(self, image: LayerImage) -> None:
        self._image = image
        self._labels: npt.NDArray[Any] | None = None
        self._uncertainty: npt.NDArray[np.float32] | None = None
        self._names: dict[int, str] = {}
        self._provenance: list[dict[str, Any]] = []
        self._checksums: list[str] = []
        self._first_stage: LayerLabels | None = None

    @property
    def count(self) -> int:
        """Number of added time points."""
        return len(self._provenance)

    @property
    def image(self) -> LayerImage:
        """The image with the added time points."""
        return replace(self._image, times=self._image.times[: self.count])

    def add(self, result: Result) -> None:
        """Add labels (Z, Y, X) and uncertainty of the next time point, in file order."""
        placement, number = self._image.placement, len(self._provenance)
        if self._labels is None:
            self._labels = np.zeros(placement.labels_shape(self._image.times), dtype=result.labels.dtype)
        self._labels[placement.index(number)] = self._image.to_layer(result.labels)
        if result.uncertainty is not None:
            if self._uncertainty is None:
                self._uncertainty = np.zeros(self._labels.shape, dtype=np.float32)
            self._uncertainty[placement.index(number)] = self._image.to_layer(result.uncertainty)
        self._names = result.label_names
        self._provenance.append(result.provenance)
        self._checksums.append(checksum(result.case))
        if result.first_stage is not None:
            self._first_stage = self._first_stage or LayerLabels(self._image)
            self._first_stage.add(result.first_stage)

    def result(self) -> LayerResult:
        """The result of the added time points; raises `CaseError` if there are none."""
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
        about: dict[str, Any] = {"axes": str(self._image.axes), "checksums": list(self._checksums)}
        if self._image.axes.time is not None:
            about["time_points"] = list(self.image.times)
        provenance["image"] = provenance["image"] | about
        first = None if self._first_stage is None else self._first_stage.result()
        done = self._image.placement.first(self.count)
        uncertainty = None if self._uncertainty is None else self._uncertainty[done]
        return LayerResult(self._labels[done], self._names, provenance, first, uncertainty)
