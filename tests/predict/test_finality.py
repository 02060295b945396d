"""Which labels are final when: rows of tiles against rows of labels. No arrays, no network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu.export.linear import LinearExport
from napari_nnunet_cpu.export.whole import WholeExport
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.predict.finality import Finality, rows_needed, window_depth
from napari_nnunet_cpu.predict.grid import Grid
from napari_nnunet_cpu.prepare.resample import Resampler

ONE = Labels({0: "background"}, 1)
orders = st.sampled_from([Resampler(1, None, 0), Resampler(0, None, 0), Resampler(1, 0, 0), Resampler(1, 0, 1)])
patches = st.one_of(st.tuples(st.integers(1, 6), st.just(3), st.just(3)), st.just((3, 3)))


def export_of(resampler: Resampler, prepared: int, rows: int) -> LinearExport:
    source, shape = (prepared, 4, 4), (rows, 4, 4)
    taps = resampler.taps(source, shape)
    assert taps is not None
    return LinearExport(ONE, taps, source, shape, threads=1)


@given(orders, st.integers(1, 20), st.integers(1, 30), patches, st.sampled_from([0.3, 0.5, 1.0]), st.randoms())
def test_rows_are_final_when_no_tile_to_come_touches_what_they_need(
    resampler: Resampler, prepared: int, rows: int, patch: tuple[int, ...], step: float, random: object
) -> None:
    grid = Grid.for_image((prepared, 4, 4), patch, step)
    export = export_of(resampler, prepared, rows)
    tiles = list(grid.tiles())
    random.shuffle(tiles)
    finality = Finality(grid, export, rows, tiles)
    final = np.zeros(rows, bool)
    for count, tile in enumerate(tiles, start=1):
        found = finality.done(tile)
        if found is not None:
            assert not final[slice(*found)].any()
            final[slice(*found)] = True
            finality.settle(*found)
        expected = [True] * rows
        for row in range(rows):
            first, last = (place + grid.before[0] for place in export.rows_needed(row, row + 1))
            expected[row] = all(
                other.start[0] >= last or other.start[0] + other.size[0] <= first for other in tiles[count:]
            )
        assert final.tolist() == expected
        still = [row for start, stop in finality.open_rows for row in range(start, stop)]
        assert still == np.flatnonzero(~final).tolist()
        lowest = [export.rows_needed(row, row + 1)[0] + grid.before[0] for row in still]
        assert finality.needed == min(lowest, default=grid.padded[0])
    assert final.all()


@given(orders, st.integers(1, 20), st.integers(1, 30), patches, st.sampled_from([0.3, 0.5, 1.0]))
def test_the_window_is_as_deep_as_it_must_be_and_no_deeper(
    resampler: Resampler, prepared: int, rows: int, patch: tuple[int, ...], step: float
) -> None:
    grid = Grid.for_image((prepared, 4, 4), patch, step)
    export = export_of(resampler, prepared, rows)
    finality = Finality(grid, export, rows, grid.tiles())
    deepest, low = 0, finality.needed
    for tile in grid.tiles():
        deepest = max(deepest, tile.start[0] + tile.size[0] - min(low, tile.start[0]))
        found = finality.done(tile)
        if found is not None:
            finality.settle(*found)
            low = finality.needed
    assert window_depth(grid, export, rows, grid.starts[0]) == deepest


@pytest.mark.parametrize(
    ("prepared", "rows", "patch", "depth"),
    [
        (64, 64, (8, 4, 4), 8),  # not resampled: a patch
        (64, 100, (8, 4, 4), 9),  # a row of labels lies between two of the image
        (64, 64, (4, 4), 1),  # slice by slice
        (5, 5, (8, 4, 4), 8),
    ],
)
def test_the_window_is_about_a_patch(prepared: int, rows: int, patch: tuple[int, ...], depth: int) -> None:
    grid = Grid.for_image((prepared, 4, 4), patch, 0.5)
    export = export_of(Resampler(1, None, 0), prepared, rows)
    assert window_depth(grid, export, rows, grid.starts[0]) == depth


def test_splines_need_it_all() -> None:
    grid = Grid.for_image((20, 4, 4), (8, 4, 4), 0.5)
    export = WholeExport(ONE, Resampler(3, None, 0), (20, 4, 4), (30, 4, 4))
    assert window_depth(grid, export, 30, grid.starts[0]) == 20
    finality = Finality(grid, export, 30, grid.tiles())
    assert [finality.done(tile) for tile in grid.tiles()] == [None] * (len(grid) - 1) + [(0, 30)]


def test_further_tiles_open_what_they_touch() -> None:
    grid = Grid.for_image((8, 4, 4), (4, 4, 4), 0.5)
    first, middle, last = grid.tiles()
    finality = Finality(grid, export_of(Resampler(1, None, 0), 8, 8), 8, [first, last])
    for tile in (first, last):
        finality.settle(*finality.done(tile))
    assert finality.open_rows == []
    assert finality.needed == 8
    finality.plan([middle, first])  # the first is known
    assert finality.open_rows == [(2, 6)]
    assert finality.needed == 2
    assert finality.done(middle) == (2, 6)


def test_rows_of_a_padded_image_lie_behind_the_padding() -> None:
    grid = Grid.for_image((3, 4, 4), (8, 4, 4), 0.5)
    first, last = rows_needed(grid, export_of(Resampler(1, None, 0), 3, 3), 3)
    assert (first.tolist(), last.tolist()) == ([2, 3, 4], [3, 4, 5])
