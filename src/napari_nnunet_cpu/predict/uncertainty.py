"""Uncertainty about the labels of a run, measured beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.engines import threads_of
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import UncertaintyExport
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.passes.accumulate import Accumulator
from napari_nnunet_cpu.predict.passes.accumulated_channels import extra_channels
from napari_nnunet_cpu.predict.passes.disagreement import Disagreement
from napari_nnunet_cpu.predict.passes.mirroring import passes_per_tile
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.settings import Settings

Uncertainty = npt.NDArray[np.float32]


class RunUncertainty:
    """The uncertainty of one run.

    Parameters
    ----------
    export : UncertaintyExport
        Measures it.
    model : TrainedModel
        Its labels.
    settings : Settings
        Which kind.
    geometry : Geometry
        Where what was kept lies in the case.

    Attributes
    ----------
    final : numpy.ndarray
        In the boxes that were settled; elsewhere 0. Shape of the case (Z, Y, X), float32.
    """

    def __init__(self, export: UncertaintyExport, model: TrainedModel, settings: Settings, geometry: Geometry) -> None:
        self._export = export
        self._labels = model.labels
        self._geometry = geometry
        self._of_passes = extra_channels(settings) > 0
        self.final: Uncertainty = np.zeros(geometry.case_shape, dtype=np.float32)

    def of_a_tile(self) -> Disagreement | None:
        """What the passes of a tile are to be shown to; None where uncertainty is made of their mean."""
        return Disagreement(self._labels) if self._of_passes else None

    def settle(self, accumulator: Accumulator, box: Box) -> None:
        """Measure the uncertainty in a box of what was kept, whose sums are complete."""
        self._measure(accumulator, self.final, box)

    def now(self, accumulator: Accumulator, open_boxes: Iterable[Box]) -> Uncertainty:
        """The uncertainty of what is computed so far, also in boxes that are not settled: shape of the case, a copy."""
        found = self.final.copy()
        for box in open_boxes:
            self._measure(accumulator, found, box)
        return found

    def _measure(self, accumulator: Accumulator, whole: Uncertainty, box: Box) -> None:
        source = accumulator.extra_channels if self._of_passes else accumulator.logits
        self._export.export(source, self._geometry.kept(whole), box)


def uncertainty_export(model: TrainedModel, settings: Settings, geometry: Geometry) -> UncertaintyExport | None:
    """How the run measures uncertainty; None where it is not asked for."""
    return (
        None
        if settings.uncertainty is None
        else UncertaintyExport(settings.uncertainty, model, geometry, threads_of(settings))
    )


def check_passes(settings: Settings, passes: int) -> None:
    """Refuse a disagreement of one pass.

    Raises
    ------
    SettingsError
        When a tile has no other.
    """
    if settings.uncertainty == "disagreement" and passes < 2:
        raise SettingsError(
            "disagreement is that of folds and mirrored passes, and this run has one pass per tile: "
            "choose margin or entropy, mirror, or take a model with several folds"
        )


def check_members(settings: Settings, members: Sequence[TrainedModel]) -> None:
    """Refuse a disagreement that there will not be, before the first network runs.

    Raises
    ------
    SettingsError
        When the only model has one pass per tile, or when there are several models.
    """
    if settings.uncertainty == "disagreement" and len(members) > 1:
        raise SettingsError(
            "disagreement is that of one model's folds and mirrored passes, not of several models, whose "
            "probabilities are averaged: choose margin or entropy"
        )
    for model in members:
        check_passes(settings, passes_per_tile(model, settings))
