"""Find out which labels are final: no tile still to come touches a voxel that they depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box, Side, Triple
from napari_nnunet_cpu.export import LabelExport
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile
from napari_nnunet_cpu.predict.tiles.sections import Sections, voxels_needed


class Finality:
    """Tracks which labels are final while tiles are computed.

    The sections of the three axes cut the cropped image, of this `shape` (Z, Y, X), into cells. The labels of a cell
    depend on the same tiles, so they become final together. There are about eight times as many cells as tiles.
    `export` knows which voxels of the prepared image a label depends on.
    """

    def __init__(self, grid: Grid, export: LabelExport, shape: Triple) -> None:
        self._grid = grid
        self._axes = [Sections.of(grid, export, length, axis) for axis, length in enumerate(shape)]
        cells = [len(sections) for sections in self._axes]
        z, y, x = (sections.highest - sections.lowest for sections in self._axes)
        self._all = z[:, None, None] * y[:, None] * x  # tiles of the grid that touch each cell
        self._planned, self._done = np.zeros((2, *cells), dtype=np.int32)
        self._wanted = np.ones(cells, dtype=np.bool_)
        self._final = np.zeros(cells, dtype=np.bool_)
        self._computed: set[int] = set()
        self._end = grid.padded[0]

    def want(self, box: Box | None) -> None:
        """Request the labels in a box of the cropped image; all labels if None."""
        self._wanted[...] = box is None
        if box is not None:
            self._wanted[self._meeting(box).slices] = True

    def decides(self, box: Box, tile: Tile) -> bool:
        """Whether labels in a box of the cropped image depend on the tile."""
        return self._touched(tile).common(self._meeting(box)) is not None

    def plan(self, tiles: Iterable[Tile]) -> None:
        """Expect these tiles and no others; some may be done. Cells that the others touch are not final any more."""
        self._planned[...] = self._done
        for tile in dict.fromkeys(tiles):
            if tile.index not in self._computed:
                touched = self._touched(tile).slices
                self._planned[touched] += 1
                self._final[touched] = False

    def done(self, tile: Tile) -> None:
        """Record a computed tile, expected or not."""
        touched = self._touched(tile).slices
        self._computed.add(tile.index)
        self._done[touched] += 1
        np.maximum(self._planned[touched], self._done[touched], out=self._planned[touched])

    def ready(self) -> Iterator[tuple[Box, bool]]:
        """Boxes of the cropped image with complete logits whose labels are not final yet; `settle` makes them final.

        Yields each box, and whether all tiles of the grid that touch it are done, so that no plan can change its
        labels any more.
        """
        ready = (self._planned == self._done) & (self._planned > 0) & self._wanted & ~self._final
        complete = self._complete
        for all_count, cells in ((True, ready & complete), (False, ready & ~complete)):
            for box in boxes_of(cells):
                yield self._voxels(box), all_count

    def settle(self, box: Box) -> None:
        """Record that the labels of a box of cells were made from complete logits."""
        self._final[self._meeting(box).slices] = True

    def open_boxes(self) -> Iterator[Box]:
        """Boxes of the cropped image whose labels are requested and not final."""
        return (self._voxels(box) for box in boxes_of(self._wanted & ~self._final))

    def final_boxes(self) -> Iterator[Box]:
        """Boxes of the cropped image whose labels are requested and final."""
        return (self._voxels(box) for box in boxes_of(self._wanted & self._final))

    def finished(self, box: Box) -> bool:
        """Whether no label still to come depends on a box of the padded image, under any plan."""
        cells = self._each(Sections.needing, box).slices
        return bool((self._final & self._complete)[cells].all())

    @property
    def needed(self) -> int:
        """The first row of the padded image that labels still to come depend on; the end if all are final."""
        still = np.flatnonzero((self._wanted & ~self._final).any(axis=(1, 2)))
        return int(self._axes[0].first[still[0]]) if len(still) else self._end

    @property
    def _complete(self) -> npt.NDArray[np.bool_]:
        complete: npt.NDArray[np.bool_] = self._done == self._all
        return complete

    def _touched(self, tile: Tile) -> Box:
        """The cells that depend on a tile."""
        return Box(*map(Sections.touched, self._axes, self._grid.numbers(tile)))

    def _meeting(self, box: Box) -> Box:
        """The cells that contain voxels of a box."""
        return self._each(Sections.meeting, box)

    def _voxels(self, cells: Box) -> Box:
        return self._each(Sections.voxels, cells)

    def _each(self, method: Callable[[Sections, int, int], Side], box: Box) -> Box:
        """The box that a method of the sections makes of each side."""
        return Box(*(method(sections, *side) for sections, side in zip(self._axes, box, strict=True)))


def window_depth(grid: Grid, export: LabelExport, rows: int, starts: Sequence[int]) -> int:
    """Rows of the padded image that must be held at a time if tiles come row by row.

    `rows` is the length of the cropped image along its first axis, and `starts` are the starts of the tiles along
    it, ascending.
    """
    first, last = voxels_needed(grid, export, rows, axis=0)
    depth = grid.patch[0]
    for start in starts:
        still = first[last > start]
        if len(still):
            depth = max(depth, start + grid.patch[0] - int(still[0]))
    return min(depth, grid.padded[0])


def boxes_of(mask: npt.NDArray[np.bool_]) -> Iterator[Box]:
    """Split a mask (Z, Y, X) into boxes that cover every True voxel once and no False voxel.

    Each box grows from its first voxel as far as possible along X, then Y, then Z.
    """
    left = mask.copy()
    while left.any():
        z, y, x = (int(place) for place in np.unravel_index(np.argmax(left), left.shape))
        line = left[z, y, x:]
        right = x + (len(line) if line.all() else int(np.argmin(line)))
        lines = np.asarray(left[z, y:, x:right].all(axis=1))
        bottom = y + (len(lines) if lines.all() else int(np.argmin(lines)))
        planes = np.asarray(left[z:, y:bottom, x:right].all(axis=(1, 2)))
        back = z + (len(planes) if planes.all() else int(np.argmin(planes)))
        left[z:back, y:bottom, x:right] = False
        yield Box((z, back), (y, bottom), (x, right))
