"""When labels are final: no tile that is still to come touches a voxel that they depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Bounds, boxes_of
from napari_nnunet_cpu.export import LabelExport
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile, Triple
from napari_nnunet_cpu.predict.tiles.sections import Sections, voxels_needed

Cells = tuple[slice, slice, slice]


class Finality:
    """Follows which labels are final while tiles are computed.

    The labels are cut into cells: a section of each axis. Those of a cell depend on the same tiles, so that they
    become final together. There are about eight times as many cells as tiles.

    Parameters
    ----------
    grid : Grid
        Where tiles lie.
    export : LabelExport
        Says which voxels of the prepared image labels depend on.
    shape : tuple of int
        Of what was kept of the image (Z, Y, X).
    """

    def __init__(self, grid: Grid, export: LabelExport, shape: Triple) -> None:
        self._grid = grid
        self._axes = [Sections.of(grid, export, length, axis) for axis, length in enumerate(shape)]
        cells = [len(sections) for sections in self._axes]
        z, y, x = (sections.highest - sections.lowest for sections in self._axes)
        self._all = z[:, None, None] * y[:, None] * x  # tiles that there are for each cell
        self._planned, self._done = np.zeros((2, *cells), dtype=np.int32)
        self._wanted = np.ones(cells, dtype=np.bool_)
        self._final = np.zeros(cells, dtype=np.bool_)
        self._computed: set[int] = set()
        self._end = grid.padded[0]

    def want(self, box: Bounds | None) -> None:
        """Say which labels are asked for: those in a box of what was kept; all of them when None."""
        self._wanted[...] = box is None
        if box is not None:
            self._wanted[self._meeting(box)] = True

    def decides(self, box: Bounds, tile: Tile) -> bool:
        """Whether labels in a box of what was kept depend on the tile."""
        touched, asked = self._touched(tile), self._meeting(box)
        return all(max(a.start, b.start) < min(a.stop, b.stop) for a, b in zip(touched, asked, strict=True))

    def plan(self, tiles: Iterable[Tile]) -> None:
        """Expect these tiles, of which some may be done, and no others: what they touch is not final any more."""
        self._planned[...] = self._done
        for tile in dict.fromkeys(tiles):
            if tile.index not in self._computed:
                touched = self._touched(tile)
                self._planned[touched] += 1
                self._final[touched] = False

    def done(self, tile: Tile) -> None:
        """Take note of a tile, expected or not."""
        touched = self._touched(tile)
        self._computed.add(tile.index)
        self._done[touched] += 1
        np.maximum(self._planned[touched], self._done[touched], out=self._planned[touched])

    def ready(self) -> Iterator[tuple[Bounds, bool]]:
        """Boxes of what was kept of the image whose logits are complete, and whose labels are not final yet.

        They are final once `settle` is told of their labels.

        Yields
        ------
        tuple
            The box, and whether no plan could change its labels any more, because all the tiles of the grid that
            there are for it are done.
        """
        ready = (self._planned == self._done) & (self._planned > 0) & self._wanted & ~self._final
        complete = self._complete
        for all_count, cells in ((True, ready & complete), (False, ready & ~complete)):
            for box in boxes_of(cells):
                yield self._voxels(box), all_count

    def settle(self, box: Bounds) -> None:
        """Take note that the labels of a box of cells were made from complete logits."""
        self._final[self._meeting(box)] = True

    def open_boxes(self) -> Iterator[Bounds]:
        """Boxes of what was kept of the image whose labels are asked for and not final."""
        return (self._voxels(box) for box in boxes_of(self._wanted & ~self._final))

    def final_boxes(self) -> Iterator[Bounds]:
        """Boxes of what was kept of the image whose labels are asked for and final."""
        return (self._voxels(box) for box in boxes_of(self._wanted & self._final))

    def finished(self, box: Bounds) -> bool:
        """Whether no labels that are to come depend on a box of the padded image, whatever is planned."""
        z, y, x = (sections.needing(*side) for sections, side in zip(self._axes, box, strict=True))
        return bool((self._final & self._complete)[z, y, x].all())

    @property
    def needed(self) -> int:
        """The first row of the padded image that labels to come depend on; its end when all are final."""
        still = np.flatnonzero((self._wanted & ~self._final).any(axis=(1, 2)))
        return int(self._axes[0].first[still[0]]) if len(still) else self._end

    @property
    def _complete(self) -> npt.NDArray[np.bool_]:
        complete: npt.NDArray[np.bool_] = self._done == self._all
        return complete

    def _touched(self, tile: Tile) -> Cells:
        """The cells that depend on a tile."""
        numbers = self._grid.numbers(tile)
        z, y, x = (sections.touched(number) for sections, number in zip(self._axes, numbers, strict=True))
        return z, y, x

    def _meeting(self, box: Bounds) -> Cells:
        """The cells in which voxels of a box lie."""
        z, y, x = (sections.meeting(*side) for sections, side in zip(self._axes, box, strict=True))
        return z, y, x

    def _voxels(self, cells: Bounds) -> Bounds:
        z, y, x = (sections.voxels(side) for sections, side in zip(self._axes, cells, strict=True))
        return z, y, x


def window_depth(grid: Grid, export: LabelExport, rows: int, starts: Sequence[int]) -> int:
    """Rows of the padded image to be held at a time when tiles come row by row.

    Parameters
    ----------
    grid : Grid
        Where tiles lie.
    export : LabelExport
        Says which rows of the prepared image labels depend on.
    rows : int
        Of what was kept of the image.
    starts : sequence of int
        Of the tiles, along the first axis, in ascending order.
    """
    first, last = voxels_needed(grid, export, rows, axis=0)
    depth = grid.patch[0]
    for start in starts:
        still = first[last > start]
        if len(still):
            depth = max(depth, start + grid.patch[0] - int(still[0]))
    return min(depth, grid.padded[0])
