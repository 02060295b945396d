"""Which labels are final when: tiles against cells of labels. No logits, no network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.export.linear import LinearExport
from napari_nnunet_cpu.export.spline_labels import SplineExport
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.predict.tiles.finality import Finality, window_depth
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile, Triple
from napari_nnunet_cpu.prepare.resample import Resampler

ONE = Labels({0: "background"}, 1)
orders = st.sampled_from([Resampler(1, None, 0), Resampler(0, None, 0), Resampler(1, 0, 0), Resampler(1, 0, 1)])
patches = st.one_of(st.tuples(st.integers(1, 6), st.just(3), st.just(2)), st.just((3, 3)))
shapes = st.tuples(*[st.integers(1, 9)] * 3)
steps = st.sampled_from([0.3, 0.5, 1.0])


def export_of(resampler: Resampler, source: Triple, shape: Triple) -> LinearExport:
    weights = resampler.axis_weights(source, shape)
    assert weights is not None
    return LinearExport(ONE, weights, source, shape, threads=1)


class Needs:
    """Which labels depend on which tiles, found voxel by voxel."""

    def __init__(self, grid: Grid, export: LinearExport, shape: Triple) -> None:
        self._grid, self._shape = grid, shape
        self._spans = [
            [
                tuple(place + grid.before[axis] for place in export.needed(voxel_box(voxel, axis))[axis])
                for voxel in range(length)
            ]
            for axis, length in enumerate(shape)
        ]

    def depending_on(self, tile: Tile) -> np.ndarray:
        """The labels that depend on a tile: a mask."""
        along = [
            np.array([first < start + size and last > start for first, last in spans])
            for spans, start, size in zip(self._spans, tile.start, tile.size, strict=True)
        ]
        return along[0][:, None, None] & along[1][:, None] & along[2]

    def any_of(self, tiles: list[Tile]) -> np.ndarray:
        return np.any([np.zeros(self._shape, bool), *(self.depending_on(tile) for tile in tiles)], axis=0)

    def first_row(self, labels: np.ndarray) -> int:
        rows = [first for (first, _), row in zip(self._spans[0], labels, strict=True) if row.any()]
        return min(rows, default=self._grid.padded[0])


def voxel_box(voxel: int, axis: int) -> Box:
    return Box(*((voxel, voxel + 1) if number == axis else (0, 1) for number in range(3)))


def settled(finality: Finality, shape: Triple) -> tuple[np.ndarray, np.ndarray]:
    """Settle what is ready; how often each label was, and how often for good."""
    found, for_good = np.zeros((2, *shape), int)
    for box, complete in finality.ready():
        found[box.slices] += 1
        for_good[box.slices] += complete
        finality.settle(box)
    return found, for_good


@given(orders, shapes, shapes, patches, steps, st.randoms(), st.data())
@settings(max_examples=40)
def test_labels_are_final_when_no_tile_to_come_touches_what_they_need(
    resampler: Resampler, source: Triple, shape: Triple, patch: tuple[int, ...], step: float, random: object,
    data: st.DataObject,
) -> None:  # fmt: skip
    grid = Grid.for_image(source, patch, step)
    export = export_of(resampler, source, shape)
    needs = Needs(grid, export, shape)
    everything = list(grid.tiles())
    tiles = data.draw(st.sampled_from([everything, list(grid.covering_tiles())]))
    random.shuffle(tiles)
    tiles = tiles[:40]
    finality = Finality(grid, export, shape)
    finality.plan(tiles)
    final, covered = np.zeros(shape, bool), needs.any_of(tiles)
    for count, tile in enumerate(tiles, start=1):
        finality.done(tile)
        found, for_good = settled(finality, shape)
        expected = covered & ~needs.any_of(tiles[count:])
        assert np.array_equal(found, expected & ~final)
        final = expected
        rest = [other for other in everything if other not in tiles[:count]]
        assert np.array_equal(for_good.astype(bool), found.astype(bool) & ~needs.any_of(rest))
        still = np.zeros(shape, int)
        for box in finality.open_boxes():
            still[box.slices] += 1
        assert np.array_equal(still, ~final)
        assert finality.needed == needs.first_row(~final)
    assert np.array_equal(final, covered)


@given(orders, shapes, shapes, patches, steps, st.data())
@settings(max_examples=40)
def test_tiles_of_a_box_are_those_that_it_depends_on(
    resampler: Resampler, source: Triple, shape: Triple, patch: tuple[int, ...], step: float, data: st.DataObject
) -> None:
    grid = Grid.for_image(source, patch, step)
    export = export_of(resampler, source, shape)
    needs = Needs(grid, export, shape)
    starts = [data.draw(st.integers(0, length - 1)) for length in shape]
    box = Box(*((start, data.draw(st.integers(start + 1, n))) for start, n in zip(starts, shape, strict=True)))
    finality = Finality(grid, export, shape)
    tiles = [tile for tile in grid.tiles() if finality.decides(box, tile)]
    assert tiles == [tile for tile in grid.tiles() if needs.depending_on(tile)[box.slices].any()]
    finality.want(box)
    finality.plan(tiles)
    for tile in tiles:
        finality.done(tile)
    found, for_good = settled(finality, shape)
    assert (found[box.slices] == 1).all()  # and around it what depends on the same tiles
    assert not (found.astype(bool) & needs.any_of([tile for tile in grid.tiles() if tile not in tiles])).any()
    assert np.array_equal(for_good, found)
    assert list(finality.open_boxes()) == []
    assert finality.needed == grid.padded[0]


def test_an_empty_box_wants_nothing() -> None:
    grid = Grid.for_image((8, 4, 4), (4, 4, 4), 0.5)
    finality = Finality(grid, export_of(Resampler(1, None, 0), (8, 4, 4), (8, 4, 4)), (8, 4, 4))
    nothing = (0, 0), (0, 0), (0, 0)
    assert not any(finality.decides(nothing, tile) for tile in grid.tiles())
    finality.want(nothing)
    finality.plan(())
    assert list(finality.ready()) == list(finality.open_boxes()) == []


@given(orders, st.integers(1, 20), st.integers(1, 30), patches, steps)
def test_the_window_is_as_deep_as_it_must_be_and_no_deeper(
    resampler: Resampler, prepared: int, rows: int, patch: tuple[int, ...], step: float
) -> None:
    grid = Grid.for_image((prepared, 4, 4), patch, step)
    export = export_of(resampler, (prepared, 4, 4), (rows, 4, 4))
    finality = Finality(grid, export, (rows, 4, 4))
    finality.plan(grid.tiles())
    deepest, low = 0, finality.needed
    for tile in grid.tiles():
        deepest = max(deepest, tile.start[0] + tile.size[0] - min(low, tile.start[0]))
        finality.done(tile)
        settled(finality, (rows, 4, 4))
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
    export = export_of(Resampler(1, None, 0), (prepared, 4, 4), (rows, 4, 4))
    assert window_depth(grid, export, rows, grid.starts[0]) == depth


def test_splines_need_it_all() -> None:
    grid = Grid.for_image((20, 4, 4), (8, 4, 4), 0.5)
    export = SplineExport(ONE, Resampler(3, None, 0), (20, 4, 4), (30, 4, 4))
    assert window_depth(grid, export, 30, grid.starts[0]) == 20
    finality = Finality(grid, export, (30, 4, 4))
    finality.plan(grid.tiles())
    found = []
    for tile in grid.tiles():
        assert finality.decides(Box((3, 4), (0, 1), (0, 1)), tile)
        finality.done(tile)
        found.append(list(finality.ready()))
    assert found == [[]] * (len(grid) - 1) + [[(Box.whole((30, 4, 4)), True)]]


def test_another_plan_opens_what_its_tiles_touch() -> None:
    shape = (8, 4, 4)
    grid = Grid.for_image(shape, (4, 4, 4), 0.5)
    first, middle, last = grid.tiles()
    finality = Finality(grid, export_of(Resampler(1, None, 0), shape, shape), shape)
    finality.plan([first, last])
    for tile in (first, last):
        finality.done(tile)
        settled(finality, shape)
    rows = slice(2, 6)
    assert list(finality.open_boxes()) == []
    assert not finality.finished(Box((2, 4), (0, 4), (0, 4)))
    assert finality.finished(Box((0, 2), (0, 4), (0, 4)))
    finality.plan([middle, first])
    assert list(finality.open_boxes()) == [((rows.start, rows.stop), (0, 4), (0, 4))]
    assert finality.needed == 2
    finality.plan([])  # it is not to come after all
    assert list(finality.ready()) == [(((2, 6), (0, 4), (0, 4)), False)]
    finality.plan([middle])
    finality.done(middle)
    assert list(finality.ready()) == [(((2, 6), (0, 4), (0, 4)), True)]
    settled(finality, shape)
    assert finality.finished(Box.whole(shape))
