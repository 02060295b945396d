from fractions import Fraction
from itertools import pairwise
from math import ceil, prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile, axis_starts, covering_starts

shapes = st.tuples(*[st.integers(1, 24)] * 3)
patches = st.tuples(*[st.integers(1, 12)] * 3)
steps = st.floats(0.05, 1)


def coverage(grid: Grid, tiles: tuple[Tile, ...]) -> np.ndarray:
    """How many of the tiles lie on every voxel of the padded image."""
    count = np.zeros(grid.padded, int)
    for tile in tiles:
        count[tile.box.slices] += 1
    return count


@given(shapes, patches, steps)
def test_every_voxel_is_covered(shape: tuple[int, int, int], patch: tuple[int, int, int], step: float) -> None:
    grid = Grid.for_image(shape, patch, step)
    assert coverage(grid, grid.tiles()).min() >= 1
    assert len(grid) == len(grid.tiles())
    for tile in grid.tiles():
        assert all(s >= 0 and s + n <= p for s, n, p in zip(tile.start, tile.size, grid.padded, strict=True))


@given(st.integers(1, 300), st.integers(1, 128), st.sampled_from([Fraction(k, 8) for k in range(1, 9)]))
def test_starts_are_the_fewest_evenly_spread(patch: int, beyond: int, step: Fraction) -> None:
    """In exact fractions: the fewest tiles that are at most step * patch apart, evenly spread, halves to even."""
    last = beyond - 1
    tiles = 1
    while last > (tiles - 1) * step * patch:
        tiles += 1
    expected = [round(Fraction(last * i, tiles - 1)) if i else 0 for i in range(tiles)]
    assert axis_starts(patch + last, patch, float(step)) == tuple(expected)


@pytest.mark.parametrize(
    ("length", "patch", "step", "starts"),
    [
        (110, 64, 0.5, (0, 23, 46)),  # the example in nnU-Net's source
        (64, 64, 0.5, (0,)),
        (65, 64, 0.5, (0, 1)),
        (96, 64, 0.5, (0, 32)),
        (97, 64, 0.5, (0, 16, 33)),  # 16.5: halves go to the even number
        (100, 50, 1.0, (0, 50)),
        (101, 50, 1.0, (0, 26, 51)),
    ],
)
def test_starts_by_hand(length: int, patch: int, step: float, starts: tuple[int, ...]) -> None:
    assert axis_starts(length, patch, step) == starts


@given(patches, st.data(), steps)
def test_one_tile_where_the_patch_is_as_large(patch: tuple[int, int, int], data: st.DataObject, step: float) -> None:
    z, y, x = (data.draw(st.integers(1, length)) for length in patch)
    grid = Grid.for_image((z, y, x), patch, step)
    assert [tile.start for tile in grid.tiles()] == [(0, 0, 0)]
    assert grid.padded == patch


@given(shapes, patches)
def test_padding_is_centred_and_odd_behind(shape: tuple[int, int, int], patch: tuple[int, int, int]) -> None:
    grid = Grid.for_image(shape, patch, 0.5)
    for n, p, total, before, inside in zip(shape, patch, grid.padded, grid.before, grid.inside, strict=True):
        assert total == max(n, p)
        behind = total - before - n
        assert behind - before in (0, 1)
        assert inside == (before, before + n)


def test_flat_patch_goes_over_every_slice() -> None:
    grid = Grid.for_image((3, 10, 17), (12, 8), 0.5)
    assert grid.patch == (1, 12, 8)
    assert grid.padded == (3, 12, 17)
    assert grid.before == (0, 1, 0)
    assert grid.starts == ((0, 1, 2), (0,), (0, 3, 6, 9))
    assert {tile.start[0] for tile in grid.tiles()} == {0, 1, 2}
    assert len(grid) == 12


def test_tiles_are_numbered_last_axis_fastest() -> None:
    tiles = Grid.for_image((3, 4, 5), (2, 3, 4), 0.5).tiles()
    assert [tile.index for tile in tiles] == list(range(len(tiles)))
    assert [tile.start for tile in tiles] == sorted(tile.start for tile in tiles)
    assert tiles[1] == Tile(1, (0, 0, 1), (2, 3, 4))
    assert tiles[1].box == ((0, 2), (0, 3), (1, 5))


@given(shapes, patches, steps)
def test_covering_tiles_cover(shape: tuple[int, int, int], patch: tuple[int, int, int], step: float) -> None:
    grid = Grid.for_image(shape, patch, step)
    tiles = grid.covering_tiles()
    assert coverage(grid, tiles).min() >= 1
    assert set(tiles) <= set(grid.tiles())
    assert len({tile.start for tile in tiles}) == len(tiles)


@given(st.integers(1, 60), st.integers(1, 20), st.floats(0.2, 1))
def test_covering_starts_are_as_few_as_can_be(length: int, patch: int, step: float) -> None:
    starts = axis_starts(max(length, patch), patch, step)
    kept = covering_starts(starts, patch)
    assert set(kept) <= set(starts)
    assert all(after <= before + patch for before, after in pairwise(kept))
    # Any cover is a path from the first start to the last, each step at most a patch; the shortest, by breadth.
    reached, rounds = {starts[0]}, 1
    while starts[-1] not in reached:
        reached |= {start for start in starts if any(start <= before + patch for before in reached)}
        rounds += 1
    assert len(kept) == rounds


def test_tiles_that_would_fill_the_memory_are_refused() -> None:
    with pytest.raises(CaseError, match="tiles of an image .* more than 1000000: cut the image"):
        Grid.for_image((160, 160, 160), (1, 1, 1), 0.5)


@given(shapes, patches, st.integers(1, 30), st.data())
def test_places_all_over_the_image(
    shape: tuple[int, int, int], patch: tuple[int, int, int], most: int, data: st.DataObject
) -> None:
    grid = Grid.for_image(shape, patch, 0.5)
    size = data.draw(st.tuples(*[st.integers(1, n) for n in patch]))
    places = list(grid.spread(size, most))
    assert places == list(grid.spread(size, most))
    every = list(grid.spread(size, 10**6))
    assert len({str(place) for place in every}) == len(every)
    assert len(places) == len({str(place) for place in places}) == min(most, len(every))
    assert all(place in every for place in places)
    count = np.zeros(grid.padded, int)
    for place in every:
        assert place.shape == size
        count[place.slices] += 1
    assert count.min() >= 1
    assert len(every) == prod(ceil(n / s) for n, s in zip(grid.padded, size, strict=True))


def test_places_are_not_all_on_one_side() -> None:
    grid = Grid.for_image((100, 100, 100), (20, 20, 20), 0.5)
    starts = np.array([place.start for place in grid.spread((10, 10, 10), 24)])
    assert starts.min(axis=0).max() <= 20
    assert starts.max(axis=0).min() >= 70


def test_places_in_slices() -> None:
    grid = Grid.for_image((5, 20, 20), (20, 20), 0.5)
    places = list(grid.spread((10, 10), 100))
    assert len(places) == 20
    assert {place.z for place in places} == {(z, z + 1) for z in range(5)}
