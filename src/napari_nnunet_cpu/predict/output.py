"""The output of a run, made from its sums: labels and, if the settings ask for them, uncertainty and probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box, inside
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import LabelExport, ProbabilityExport, ScratchArray, export_box
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network import HeadLayer
from napari_nnunet_cpu.predict.passes import Accumulator, Disagreement, extra_channels
from napari_nnunet_cpu.predict.planning import RunPlan
from napari_nnunet_cpu.predict.resume import RunFile, RunSaver
from napari_nnunet_cpu.predict.tiles import Finality, Tile, cropped_box
from napari_nnunet_cpu.predict.uncertainty import RunUncertainty, uncertainty_export
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.settings import Settings

Array = npt.NDArray[Any]
Uncertainty = npt.NDArray[np.float32]


class Output:
    """Adds up tiles, and exports the labels that no later tile can change.

    The box and cover of the `settings` may change with `choose`. `channels` is the number of accumulated channels, and
    `head_layer` returns the layer that turns features into heads, or None if logits are accumulated.
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
        """Restore the labels and sums of a run file; returns its saver, and the indices of the saved tiles."""
        with_labels = self._probabilities is None and self._measured is None
        cropped = self._geometry.crop(self._labels)
        saver = RunSaver(file, self._grid, self.sums, self.finality, cropped, with_labels)
        return saver, saver.restore(self._grid.tiles())

    def choose(self, settings: Settings, tiles: Iterable[Tile]) -> None:
        """Request the labels in the box of the settings, and expect these tiles. Final boxes are reported again."""
        self._box = settings.box
        self.finality.want(cropped_box(self._geometry, settings))
        self.finality.plan(tiles)
        self._unreported = list(self.finality.final_boxes())

    def add(self, tile: Tile, channels: Array, extra: Sequence[Uncertainty]) -> None:
        """Add the channels (C, Z, Y, X) of a tile, and its extra channels (Z, Y, X), to the sums.

        Raises `SettingsError` if the rows of the tile are not in memory.
        """
        if not self.sums.holds(tile):
            raise SettingsError(
                f"{tile} is too far from the rows in memory, which holds only some; "
                "compute tiles in the order of run.tiles, or allow more memory"
            )
        self.sums.add(tile, channels, extra)
        self.finality.done(tile)

    def export_ready(self) -> list[Box]:
        """Export the labels that became final, and forget the sums that no other labels need.

        Returns the boxes of the cropped image whose labels stay final, whatever tiles are chosen later.
        """
        cropped = self._geometry.crop(self._labels)
        complete = []
        for box, all_count in self.finality.ready():
            export_box(self._export, self.sums.logits, cropped, box)
            if self._measured is not None:
                self._measured.settle(self.sums, box)
            self.finality.settle(box)
            self._unreported.append(box)
            if all_count:
                complete.append(box)
        self.sums.forget(self.finality.needed)
        return complete

    def report(self) -> tuple[Box, ...]:
        """The boxes of the case that became final since the last report, cut to the chosen box."""
        boxes = [self._geometry.case_box(box) for box in self._unreported]
        self._unreported = []
        if self._box is None:
            return tuple(boxes)
        return tuple(part for box in boxes if (part := box.common(self._box)) is not None)

    @property
    def final_labels(self) -> Array:
        """The final labels, elsewhere background: a read-only view, shape of the case (Z, Y, X)."""
        return _read_only(self._labels)

    def labels(self) -> Array:
        """A copy of the labels of all tiles so far (Z, Y, X); background outside the tiles and the chosen box."""
        labels = self._labels.copy()
        self._export_open(labels)
        return self._in_box(labels)

    @property
    def final_uncertainty(self) -> Uncertainty:
        """Uncertainty where labels are final, see `final_labels`; raises `SettingsError` without uncertainty."""
        return _read_only(self._uncertainty().final)

    def uncertainty(self) -> Uncertainty:
        """Uncertainty of all tiles so far, see `labels`; raises `SettingsError` without uncertainty."""
        return self._in_box(self._uncertainty().now(self.sums, self.finality.open_boxes()))

    def probabilities(self) -> ScratchArray:
        """Probabilities of all tiles so far; later tiles change the array. Raises `SettingsError` without them."""
        if self._probabilities is None:
            raise SettingsError("this run has no probabilities; make it with Settings(probabilities=True)")
        self._export_open(self._labels.copy())
        return self._probabilities

    def disagreement(self) -> Disagreement | None:
        """A measure of the disagreement of a tile's passes; None if the settings do not ask for it."""
        return None if self._measured is None else self._measured.of_a_tile()

    def _export_open(self, labels: Array) -> None:
        """Export the labels that are not final, and with them the probabilities, from the sums so far."""
        cropped = self._geometry.crop(labels)
        for box in self.finality.open_boxes():
            export_box(self._export, self.sums.logits, cropped, box)

    def _uncertainty(self) -> RunUncertainty:
        if self._measured is None:
            raise SettingsError('this run has no uncertainty; make it with Settings(uncertainty="margin")')
        return self._measured

    def _in_box(self, array: Array) -> Array:
        return array if self._box is None else inside(array, self._box)


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view
