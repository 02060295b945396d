"""The sections of an axis of the labels: all labels of a section depend on the same tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box, Side
from napari_nnunet_cpu.export import LabelExport
from napari_nnunet_cpu.predict.tiles.grid import Grid

Places = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Sections:
    """The sections of one axis of the cropped image, in ascending order.

    A section depends on the tiles with the starts number lowest:highest of this axis, and on the voxels first:last of
    the padded image. All arrays have the shape (sections,), except for `edges`.
    """

    edges: Places  # first voxel of each section, and the length of the axis
    lowest: Places
    highest: Places
    first: Places
    last: Places

    @classmethod
    def of(cls, grid: Grid, export: LabelExport, length: int, axis: int) -> Sections:
        """The sections of an axis of this length in voxels."""
        first, last = voxels_needed(grid, export, length, axis)
        starts = np.array(grid.starts[axis])
        lowest = np.searchsorted(starts + grid.patch[axis], first, side="right")
        highest = np.searchsorted(starts, last, side="left")
        new = np.flatnonzero((np.diff(lowest) != 0) | (np.diff(highest) != 0)) + 1
        begin = np.concatenate(([0], new))
        end = np.concatenate((new, [length]))
        return cls(np.append(begin, length), lowest[begin], highest[begin], first[begin], last[end - 1])

    def __len__(self) -> int:
        return len(self.lowest)

    def touched(self, number: int) -> Side:
        """The sections that depend on tiles with the `number`-th start."""
        return (
            int(np.searchsorted(self.highest, number, side="right")),
            int(np.searchsorted(self.lowest, number, side="right")),
        )

    def meeting(self, start: int, stop: int) -> Side:
        """The sections that contain at least one of the voxels start:stop."""
        return (
            int(np.searchsorted(self.edges, start, side="right")) - 1,
            int(np.searchsorted(self.edges, stop, side="left")),
        )

    def needing(self, start: int, stop: int) -> Side:
        """The sections that depend on voxels start:stop of the padded image."""
        return (
            int(np.searchsorted(self.last, start, side="right")),
            int(np.searchsorted(self.first, stop, side="left")),
        )

    def voxels(self, start: int, stop: int) -> Side:
        """The voxels of sections start:stop."""
        return int(self.edges[start]), int(self.edges[stop])


def voxels_needed(grid: Grid, export: LabelExport, length: int, axis: int) -> tuple[Places, Places]:
    """For each voxel of an axis of the labels, the voxels first:last of the padded image that it depends on.

    Both arrays ascend.
    """
    needed = []
    for voxel in range(length):
        start = [voxel if number == axis else 0 for number in range(3)]
        needed.append(export.needed(Box.at(start, (1, 1, 1)))[axis])
    first, last = np.array(needed).T + grid.before[axis]
    return first, last
