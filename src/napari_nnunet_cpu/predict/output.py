"""What a run gives: labels and, where the settings ask for them, uncertainty and probabilities, made of its sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box, inside
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import LabelExport, ProbabilityExport, ScratchArray, export_box
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network.head_layer import HeadLayer
from napari_nnunet_cpu.predict.passes.accumulate import Accumulator
from napari_nnunet_cpu.predict.passes.accumulated_channels import extra_channels
from napari_nnunet_cpu.predict.passes.disagreement import Disagreement
from napari_nnunet_cpu.predict.planning.plan import RunPlan
from napari_nnunet_cpu.predict.resume.run_file import RunFile
from napari_nnunet_cpu.predict.resume.saver import RunSaver
from napari_nnunet_cpu.predict.tiles.finality import Finality
from napari_nnunet_cpu.predict.tiles.grid import Tile
from napari_nnunet_cpu.predict.tiles.selection import cropped_box
from napari_nnunet_cpu.predict.uncertainty import RunUncertainty, uncertainty_export
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.settings import Settings

Array = npt.NDArray[Any]
Uncertainty = npt.NDArray[np.float32]


class Output:
    """Adds up tiles, and exports the labels that no later tile can change.

    Parameters
    ----------
    model : TrainedModel
        Its labels.
    settings : Settings
        What to make; box and cover may change with `choose`.
    geometry : Geometry
        Where the cropped image lies in the case.
    plan : RunPlan
        The grid, the export, and how many rows of sums are held.
    channels : int
        How many channels are accumulated.
    head_layer : callable
        Gives the layer that makes heads of features; None where logits are accumulated.
    """

    def __init__(
        self,
        model: TrainedModel,
        settings: Settings,
        geometry: Geometry,
        plan: RunPlan,
        channels: int,
        head_layer: Callable[[], HeadLayer | None],
    ) -> None:
        self._geometry = geometry
        self._grid = plan.grid
        self._probabilities: ScratchArray | None = None
        self._export: LabelExport = plan.export
        if settings.probabilities:
            shape = (model.labels.heads, *geometry.case_shape)
            self._probabilities = ScratchArray(shape, plan.memory.probabilities_on_disk)
            self._export = ProbabilityExport(model, geometry, self._probabilities)
        on_disk = plan.memory.kind == "disk"
        self.sums = Accumulator(plan.grid, channels, plan.memory.depth, on_disk, extra_channels(settings), head_layer)
        self.finality = Finality(plan.grid, plan.export, geometry.cropped_shape)
        self._labels: Array = np.zeros(geometry.case_shape, dtype=model.labels.dtype)
        measure = uncertainty_export(model, settings, geometry)
        self._measured = None if measure is None else RunUncertainty(measure, model, settings, geometry)
        self._unreported: list[Box] = []
        self._box: Box | None = None

    def resume(self, file: RunFile) -> tuple[RunSaver, set[int]]:
        """Take over what an earlier run saved; give the saver for the rest, and the indices of the tiles it has."""
        with_labels = self._probabilities is None and self._measured is None
        cropped = self._geometry.crop(self._labels)
        saver = RunSaver(file, self._grid, self.sums, self.finality, cropped, with_labels)
        return saver, saver.restore(self._grid.tiles())

    def choose(self, settings: Settings, tiles: Iterable[Tile]) -> None:
        """Make the labels in the box of these settings, and expect these tiles; all final boxes are reported again."""
        self._box = settings.box
        self.finality.want(cropped_box(self._geometry, settings))
        self.finality.plan(tiles)
        self._unreported = list(self.finality.final_boxes())

    def add(self, tile: Tile, channels: Array, extra: Sequence[Uncertainty]) -> None:
        """Add the channels (C, Z, Y, X) of a tile, and its extra ones (Z, Y, X), to the sums.

        Raises
        ------
        SettingsError
            When memory has no room for the rows that the tile touches.
        """
        if not self.sums.holds(tile):
            raise SettingsError(
                f"{tile} is too far from the rows in memory, which holds only some; "
                "compute tiles in the order of run.tiles, or allow more memory"
            )
        self.sums.add(tile, channels, extra)
        self.finality.done(tile)

    def export_ready(self) -> list[Box]:
        """Export all labels that are final now, and forget the sums that no others need.

        Returns
        -------
        list of tuple
            Boxes of the cropped image whose labels are final whatever tiles are chosen later.
        """
        cropped = self._geometry.crop(self._labels)
        for_good = []
        for box, all_count in self.finality.ready():
            export_box(self._export, self.sums.logits, cropped, box)
            if self._measured is not None:
                self._measured.settle(self.sums, box)
            self.finality.settle(box)
            self._unreported.append(box)
            if all_count:
                for_good.append(box)
        self.sums.forget(self.finality.needed)
        return for_good

    def report(self) -> tuple[Box, ...]:
        """Boxes of the case that became final since the last report, cut to the chosen box."""
        boxes = [self._geometry.case_box(box) for box in self._unreported]
        self._unreported = []
        if self._box is None:
            return tuple(boxes)
        return tuple(part for box in boxes if (part := box.common(self._box)) is not None)

    @property
    def final_labels(self) -> Array:
        """Labels where they are final, shape of the case (Z, Y, X); a view that can't be written to."""
        return _read_only(self._labels)

    def labels(self) -> Array:
        """Labels of all tiles so far, in the chosen box; background where no tile lies. Shape of the case, a copy."""
        labels = self._labels.copy()
        self._export_open(labels)
        return self._in_box(labels)

    @property
    def final_uncertainty(self) -> Uncertainty:
        """Uncertainty where labels are final, shape of the case (Z, Y, X); a view that can't be written to.

        Raises
        ------
        SettingsError
            When the settings did not ask for it.
        """
        return _read_only(self._uncertainty().final)

    def uncertainty(self) -> Uncertainty:
        """Uncertainty of all tiles so far, in the chosen box; shape of the case, a copy.

        Raises
        ------
        SettingsError
            When the settings did not ask for it.
        """
        return self._in_box(self._uncertainty().now(self.sums, self.finality.open_boxes()))

    def probabilities(self) -> ScratchArray:
        """Probabilities of all tiles so far; the array changes as the run continues.

        Raises
        ------
        SettingsError
            When the settings did not ask for them.
        """
        if self._probabilities is None:
            raise SettingsError("this run keeps no probabilities; make it with Settings(probabilities=True)")
        self._export_open(self._labels.copy())
        return self._probabilities

    def disagreement(self) -> Disagreement | None:
        """Measures how far the passes of a tile disagree; None where the settings do not ask for it."""
        return None if self._measured is None else self._measured.of_a_tile()

    def _export_open(self, labels: Array) -> None:
        """Export the labels that are not final from the sums as they are, and with them the probabilities."""
        cropped = self._geometry.crop(labels)
        for box in self.finality.open_boxes():
            export_box(self._export, self.sums.logits, cropped, box)

    def _uncertainty(self) -> RunUncertainty:
        if self._measured is None:
            raise SettingsError('this run measures no uncertainty; make it with Settings(uncertainty="margin")')
        return self._measured

    def _in_box(self, array: Array) -> Array:
        return array if self._box is None else inside(array, self._box)


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view
