"""The uncertainty of the labels of a run, measured in the same run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.engines import threads_of
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import UncertaintyExport
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.passes import Accumulator, Disagreement, extra_channels, passes_per_tile
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.settings import Settings

Uncertainty = npt.NDArray[np.float32]


class RunUncertainty:
    """The uncertainty of one run; `final` (Z, Y, X) has the shape of the case, and is 0 outside settled boxes."""

    def __init__(self, export: UncertaintyExport, model: TrainedModel, settings: Settings, geometry: Geometry) -> None:
        self._export = export
        self._labels = model.labels
        self._geometry = geometry
        self._of_passes = extra_channels(settings) > 0
        self.final: Uncertainty = np.zeros(geometry.case_shape, dtype=np.float32)

    def of_a_tile(self) -> Disagreement | None:
        """A measure of the disagreement of a tile's passes; None for margin and entropy, which need only their mean."""
        return Disagreement(self._labels) if self._of_passes else None

    def settle(self, accumulator: Accumulator, box: Box) -> None:
        """Measure the uncertainty in a box of the cropped image whose sums are complete."""
        self._measure(accumulator, self.final, box)

    def now(self, accumulator: Accumulator, open_boxes: Iterable[Box]) -> Uncertainty:
        """A copy of the uncertainty with the present values in the open boxes; shape of the case (Z, Y, X)."""
        found = self.final.copy()
        for box in open_boxes:
            self._measure(accumulator, found, box)
        return found

    def _measure(self, accumulator: Accumulator, whole: Uncertainty, box: Box) -> None:
        source = accumulator.extra_channels if self._of_passes else accumulator.logits
        self._export.export(source, self._geometry.crop(whole), box)


def uncertainty_export(model: TrainedModel, settings: Settings, geometry: Geometry) -> UncertaintyExport | None:
    """The export that measures the uncertainty of a run; None if the settings do not ask for it."""
    return (
        None
        if settings.uncertainty is None
        else UncertaintyExport(settings.uncertainty, model, geometry, threads_of(settings))
    )


def check_passes(settings: Settings, passes: int) -> None:
    """Raise `SettingsError` if the settings ask for disagreement and a tile has only one pass."""
    if settings.uncertainty == "disagreement" and passes < 2:
        raise SettingsError(
            "disagreement compares folds and mirrored passes, but this run has one pass per tile: "
            "choose margin or entropy, mirror, or take a model with several folds"
        )


def check_members(settings: Settings, members: Sequence[TrainedModel]) -> None:
    """Check before the first run that disagreement can be measured.

    Raises `SettingsError` if a model has one pass per tile, or if there are several models.
    """
    if settings.uncertainty == "disagreement" and len(members) > 1:
        raise SettingsError(
            "disagreement compares folds and mirrored passes of one model, but an ensemble averages the "
            "probabilities of several: choose margin or entropy"
        )
    for model in members:
        check_passes(settings, passes_per_tile(model, settings))
