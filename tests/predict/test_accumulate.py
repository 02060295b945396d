import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.predict.passes.accumulate import Accumulator, gaussian_window
from napari_nnunet_cpu.predict.tiles.grid import Grid

EPSILON = float(np.finfo(np.float32).eps)
shapes = st.tuples(*[st.integers(1, 14)] * 3)
patches = st.one_of(st.tuples(*[st.integers(1, 8)] * 3), st.tuples(*[st.integers(1, 8)] * 2))
steps = st.sampled_from([0.3, 0.5, 1.0])


def mean(accumulator: Accumulator, grid: Grid, head: int = 0) -> np.ndarray:
    return list(accumulator.logits(Box.whole(grid.shape)).means())[head]


@given(shapes, patches, steps)
def test_constants_in_constants_out(shape: tuple[int, int, int], patch: tuple[int, ...], step: float) -> None:
    grid = Grid.for_image(shape, patch, step)
    constants = np.array([-7.25, 0.0, 1e-3, 300.0], np.float32)
    accumulator = Accumulator(grid, len(constants))
    for tile in grid.tiles():
        accumulator.add(tile, np.broadcast_to(constants[:, None, None, None], (4, *tile.size)))
    for head, constant in enumerate(constants):
        found = mean(accumulator, grid, head)
        assert found.shape == shape
        np.testing.assert_allclose(found, constant, rtol=4 * len(grid) * EPSILON)


@given(shapes, patches, steps)
def test_tiles_of_an_image_give_the_image(shape: tuple[int, int, int], patch: tuple[int, ...], step: float) -> None:
    grid = Grid.for_image(shape, patch, step)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    widths = [(b, p - b - n) for b, p, n in zip(grid.before, grid.padded, shape, strict=True)]
    padded = np.pad(image, widths)
    accumulator = Accumulator(grid, 1)
    for tile in grid.tiles():
        accumulator.add(tile, padded[tile.box.slices][None])
    np.testing.assert_allclose(mean(accumulator, grid), image, rtol=4 * len(grid) * EPSILON)


def test_mean_is_weighted_by_hand() -> None:
    """Two tiles along x, one constant each: at every voxel the mean of those there, by their windows."""
    grid = Grid.for_image((1, 1, 6), (1, 1, 4), 0.5)
    accumulator = Accumulator(grid, 1)
    first, second = grid.tiles()
    accumulator.add(first, np.full((1, 1, 1, 4), 1, np.float32))
    accumulator.add(second, np.full((1, 1, 1, 4), 5, np.float32))
    w = gaussian_window((1, 1, 4))[0, 0].astype(float)
    expected = [1, 1, (w[2] + 5 * w[0]) / (w[2] + w[0]), (w[3] + 5 * w[1]) / (w[3] + w[1]), 5, 5]
    np.testing.assert_allclose(mean(accumulator, grid).ravel(), expected, rtol=1e-6)


@given(st.randoms(use_true_random=False))
def test_order_of_tiles_does_not_matter(random: object) -> None:
    grid = Grid.for_image((13, 9, 11), (6, 5, 4), 0.5)
    logits = np.random.default_rng(1).normal(size=(len(grid), 2, *grid.patch)).astype(np.float32)
    straight, shuffled = Accumulator(grid, 2), Accumulator(grid, 2)
    tiles = list(grid.tiles())
    for tile in tiles:
        straight.add(tile, logits[tile.index])
    random.shuffle(tiles)
    for tile in tiles:
        shuffled.add(tile, logits[tile.index])
    # At most 27 tiles meet at a voxel; each addition rounds once, relative to sums no larger than the logits' maximum.
    tolerance = 2 * 27 * EPSILON * float(np.abs(logits).max())
    for head in range(2):
        np.testing.assert_allclose(mean(straight, grid, head), mean(shuffled, grid, head), rtol=0, atol=tolerance)


@pytest.mark.parametrize("strip", [1, 2**7, 2**17])
def test_it_does_not_matter_how_channels_lie_in_memory(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_nnunet_cpu.predict.passes.accumulate._STRIP_PRODUCTS", strip)
    grid = Grid.for_image((7, 9, 6), (6, 5, 4), 0.5)
    rng = np.random.default_rng(3)
    first, last = Accumulator(grid, 3), Accumulator(grid, 3)
    expected = np.zeros((3, *grid.padded), np.float32)
    for tile in grid.tiles():
        channels = rng.normal(size=(3, *tile.size)).astype(np.float32)
        first.add(tile, channels)
        last.add(tile, np.moveaxis(np.ascontiguousarray(np.moveaxis(channels, 0, -1)), -1, 0))
        expected[:, *tile.box.slices] += channels * gaussian_window(grid.patch)
    for accumulator in (first, last):
        assert np.array_equal(accumulator.copy_of(Box.whole(grid.padded))[:3], expected)


def test_add_leaves_its_input_alone() -> None:
    grid = Grid.for_image((4, 4, 4), (4, 4, 4), 0.5)
    logits = np.ones((2, 4, 4, 4), np.float32)
    logits.flags.writeable = False
    Accumulator(grid, 2).add(grid.tiles()[0], logits)
    assert (logits == 1).all()


@pytest.mark.parametrize("shape", [(9, 5, 8), (9, 2, 3)])
def test_boxes_are_those_of_the_whole(shape: tuple[int, int, int]) -> None:
    """Also where the image is padded."""
    grid = Grid.for_image(shape, (4, 4, 4), 0.5)
    accumulator = Accumulator(grid, 2)
    rng = np.random.default_rng(2)
    for tile in grid.tiles():
        accumulator.add(tile, rng.normal(size=(2, *tile.size)).astype(np.float32))
    for head in range(2):
        everything = mean(accumulator, grid, head)
        for rows in [(0, 1), (3, 7), (8, 9), (0, 9)]:
            for lines in [(0, shape[1]), (1, 2)]:
                box = Box(rows, lines, (1, 3))
                assert np.array_equal(list(accumulator.logits(box).means())[head], everything[box.slices])


def test_zero_where_no_tile_lies() -> None:
    grid = Grid.for_image((4, 4, 8), (4, 4, 4), 1.0)
    accumulator = Accumulator(grid, 1)
    assert not mean(accumulator, grid).any()
    accumulator.add(grid.tiles()[1], np.full((1, 4, 4, 4), 3, np.float32))
    assert np.array_equal(np.unique(mean(accumulator, grid)[..., :4]), [0])
    assert np.array_equal(np.unique(mean(accumulator, grid)[..., 4:]), [3])


@pytest.mark.parametrize("on_disk", [False, True])
def test_size_is_that_of_the_rows_held(on_disk: bool) -> None:
    grid = Grid.for_image((5, 3, 8), (4, 4, 4), 0.5)
    assert Accumulator(grid, 3, on_disk=on_disk)._sums.nbytes == 4 * 4 * 5 * 4 * 8
    for length in (10, 20, 40):
        long = Grid.for_image((length, 3, 8), (4, 4, 4), 0.5)
        assert Accumulator(long, 3, depth=5, on_disk=on_disk)._sums.nbytes == 4 * 4 * 5 * 4 * 8


@given(shapes, patches, steps, st.integers(0, 3))
def test_a_window_goes_through_the_image(
    shape: tuple[int, int, int], patch: tuple[int, ...], step: float, spare: int
) -> None:
    """Bit for bit the sums of the whole, row of tiles by row of tiles, forgetting all that is finished."""
    grid = Grid.for_image(shape, patch, step)
    rng = np.random.default_rng(3)
    everything = Accumulator(grid, 3)
    window = Accumulator(grid, 3, depth=min(grid.patch[0] + spare, grid.padded[0]))
    finished = 0
    for tile in grid.tiles():
        if tile.start[0] > finished:
            check_rows(window, everything, grid, finished, tile.start[0])
            finished = tile.start[0]
            window.forget(finished)
        logits = rng.normal(size=(3, *tile.size)).astype(np.float32)
        assert window.holds(tile)
        everything.add(tile, logits)
        window.add(tile, logits)
    check_rows(window, everything, grid, finished, grid.padded[0])


def check_rows(window: Accumulator, everything: Accumulator, grid: Grid, start: int, stop: int) -> None:
    """Compare rows of the padded image, as far as they are of the image."""
    first, last = max(start - grid.before[0], 0), min(stop - grid.before[0], grid.shape[0])
    if first < last:
        found, expected = (
            sums.logits(Box.whole(grid.shape)._replace(z=(first, last))) for sums in (window, everything)
        )
        assert np.array_equal(found.sums, expected.sums)
        assert np.array_equal(found.weights, expected.weights)


def test_a_window_has_room_for_what_follows_the_rows_needed() -> None:
    grid = Grid.for_image((16, 4, 4), (4, 4, 4), 0.5)
    window = Accumulator(grid, 1, depth=6)
    tiles = {tile.start[0]: tile for tile in grid.tiles()}
    assert [start for start, tile in tiles.items() if window.holds(tile)] == [0, 2]
    window.add(tiles[0], np.ones((1, 4, 4, 4), np.float32))
    window.forget(4)
    assert [start for start, tile in tiles.items() if window.holds(tile)] == [0, 2, 4, 6]
    window.add(tiles[6], np.ones((1, 4, 4, 4), np.float32))
    assert [start for start, tile in tiles.items() if window.holds(tile)] == [4, 6]
    window.forget(0)  # what is forgotten does not come back, and makes no less room
    assert [start for start, tile in tiles.items() if window.holds(tile)] == [4, 6]


def test_rows_ahead_of_the_window_are_zero() -> None:
    grid = Grid.for_image((16, 4, 4), (4, 4, 4), 0.5)
    window = Accumulator(grid, 2, depth=4)
    window.add(grid.tiles()[0], np.ones((2, 4, 4, 4), np.float32))
    found = window.logits(Box((2, 7), (0, 4), (0, 4)))
    assert found.sums.shape == (2, 5, 4, 4)
    assert (list(found.means())[1][:2] == 1).all()
    assert not list(found.means())[1][2:].any()
    assert not list(window.logits(Box((9, 16), (0, 4), (0, 4))).means())[0].any()


@pytest.mark.parametrize("patch", [(16, 20, 12), (7, 9, 5), (1, 16, 24), (32, 8, 40), (1, 1, 1)])
def test_window_is_a_gaussian(patch: tuple[int, int, int]) -> None:
    """exp(-d^2 / 2 sigma^2) with sigma an eighth of the patch, cut off at four sigma, ten in the middle."""
    window = gaussian_window(patch)
    weights = []
    for length in patch:
        distance = np.abs(np.arange(length) - length // 2)
        sigma = length / 8
        weights.append(np.where(distance <= int(4 * sigma + 0.5), np.exp(-(distance**2) / (2 * sigma**2)), 0))
    expected = 10 * np.einsum("z,y,x->zyx", *weights)
    expected = expected.astype(np.float16).astype(float)
    expected[expected == 0] = expected[expected > 0].min()
    assert window.dtype == np.float32
    assert window.min() > 0
    assert window.max() == 10
    half = np.finfo(np.float16)  # one step of it, for a value on the border between two
    np.testing.assert_allclose(window, expected, rtol=float(half.eps), atol=float(half.smallest_subnormal))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_window_is_symmetric_about_its_middle(axis: int) -> None:
    window = gaussian_window((8, 10, 7))
    middle = (8, 10, 7)[axis] // 2
    reach = (8, 10, 7)[axis] - middle - 1
    around = np.moveaxis(window, axis, 0)[middle - reach : middle + reach + 1]
    np.testing.assert_allclose(around, around[::-1], rtol=float(np.finfo(np.float16).eps))
