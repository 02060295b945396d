"""What a run gives, made of its sums: labels, and where they are asked for uncertainty and probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Bounds
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import LabelExport, ProbabilityExport, ScratchArray, export_box
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.passes.accumulate import Accumulator
from napari_nnunet_cpu.predict.passes.accumulated_channels import extra_channels
from napari_nnunet_cpu.predict.planning.memory import MemoryPlan
from napari_nnunet_cpu.predict.run_engine import RunEngine
from napari_nnunet_cpu.predict.tiles.finality import Finality
from napari_nnunet_cpu.predict.tiles.grid import Grid
from napari_nnunet_cpu.predict.uncertainty import RunUncertainty, uncertainty_export
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.settings import Settings

Labels = npt.NDArray[Any]
Uncertainty = npt.NDArray[np.float32]


class Output:
    """Makes labels of sums once they are final, and of others when it is asked.

    Parameters
    ----------
    model : TrainedModel
        Its labels.
    settings : Settings
        What is to be made.
    geometry : Geometry
        Where what was kept lies in the case.
    grid : Grid
        Where tiles lie.
    export : LabelExport
        How labels are made.
    memory : MemoryPlan
        What is held at a time.
    engine : RunEngine
        Says what is summed, and what makes heads of it.

    Attributes
    ----------
    sums : Accumulator
        Takes the tiles.
    finality : Finality
        Knows which labels are final.
    labels : numpy.ndarray
        The final ones; shape of the case (Z, Y, X).
    measured : RunUncertainty or None
        The uncertainty, where it is asked for.
    fresh : list of tuple
        Boxes of what was kept that are final, and of which nobody was told yet.
    """

    def __init__(
        self,
        model: TrainedModel,
        settings: Settings,
        geometry: Geometry,
        grid: Grid,
        export: LabelExport,
        memory: MemoryPlan,
        engine: RunEngine,
    ) -> None:
        self._geometry = geometry
        self._export = export
        on_disk = memory.kind == "disk"
        self.sums = Accumulator(
            grid, engine.channels, memory.depth, on_disk, extra_channels(settings), engine.head_layer
        )
        self.finality = Finality(grid, export, geometry.cropped_shape)
        self.labels: Labels = np.zeros(geometry.case_shape, dtype=model.labels.dtype)
        measure = uncertainty_export(model, settings, geometry)
        self.measured = None if measure is None else RunUncertainty(measure, model, settings, geometry)
        self.fresh: list[Bounds] = []
        self._probabilities: ScratchArray | None = None
        if isinstance(export, ProbabilityExport):
            shape = (model.labels.heads, *geometry.case_shape)
            self._probabilities = ScratchArray(shape, memory.probabilities_on_disk)
            export.keep_in(self._probabilities)

    @property
    def only_labels(self) -> bool:
        """Whether sums are needed no more once their labels are made for good."""
        return self._probabilities is None and self.measured is None

    def make_ready(self) -> list[Bounds]:
        """Make all that is final now, and forget the sums that no others need.

        Returns
        -------
        list of tuple
            Boxes of what was kept whose labels are final whatever tiles are chosen later.
        """
        kept = self._geometry.kept(self.labels)
        for_good = []
        for box, all_count in self.finality.ready():
            export_box(self._export, self.sums.logits, kept, box)
            if self.measured is not None:
                self.measured.settle(self.sums, box)
            self.finality.settle(box)
            self.fresh.append(box)
            if all_count:
                for_good.append(box)
        self.sums.forget(self.finality.needed)
        return for_good

    def labels_now(self) -> Labels:
        """Labels of all tiles so far, a copy; where no tile lies, background."""
        labels = self.labels.copy()
        kept = self._geometry.kept(labels)
        for box in self.finality.open_boxes():
            export_box(self._export, self.sums.logits, kept, box)
        return labels

    def uncertainty_now(self) -> Uncertainty:
        """Uncertainty of all tiles so far, a copy.

        Raises
        ------
        SettingsError
            When the settings did not ask for it.
        """
        return self._uncertainty().now(self.sums, self.finality.open_boxes())

    @property
    def final_uncertainty(self) -> Uncertainty:
        """Uncertainty where labels are final.

        Raises
        ------
        SettingsError
            When the settings did not ask for it.
        """
        return self._uncertainty().final

    def probabilities_now(self) -> ScratchArray:
        """Probabilities of all tiles so far, which go on with them.

        Raises
        ------
        SettingsError
            When the settings did not ask for them.
        """
        if self._probabilities is None:
            raise SettingsError("this run keeps no probabilities; make it with Settings(probabilities=True)")
        self.labels_now()  # and with them the probabilities of what is not final
        return self._probabilities

    def _uncertainty(self) -> RunUncertainty:
        if self.measured is None:
            raise SettingsError('this run measures no uncertainty; make it with Settings(uncertainty="margin")')
        return self.measured
