import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.prepare import nonzero_box
from napari_nnunet_cpu.prepare.crop import bounding_box, nonzero_mask


def test_any_channel_counts() -> None:
    channels = np.zeros((2, 3, 4, 5), np.float32)
    channels[0, 0, 1, 2] = -3
    channels[1, 2, 3, 4] = 0.5
    assert np.argwhere(nonzero_mask(channels)).tolist() == [[0, 1, 2], [2, 3, 4]]


def test_enclosed_zeros_are_inside_and_open_ones_are_not() -> None:
    closed = np.zeros((1, 7, 7, 7), np.float32)
    closed[0, 1:6, 1:6, 1:6] = 1
    closed[0, 2:5, 2:5, 2:5] = 0
    assert nonzero_mask(closed).sum() == 5**3

    tunnel = closed.copy()
    tunnel[0, 1, 3, 3] = 0
    assert nonzero_mask(tunnel).sum() == 5**3 - 3**3 - 1


def test_an_image_of_one_slice_has_no_inside() -> None:
    ring = np.zeros((1, 1, 5, 5), np.float32)
    ring[0, 0, 1:4, 1:4] = 1
    ring[0, 0, 2, 2] = 0
    assert nonzero_mask(ring).sum() == 8  # out of the plane every hole is open


def test_channels_are_left_alone() -> None:
    channels = np.ones((2, 2, 2, 2), np.float32)
    channels[0, 0] = 0
    before = channels.copy()
    nonzero_mask(channels)
    assert np.array_equal(channels, before)


def test_box_of_nothing_is_everything() -> None:
    assert bounding_box(np.zeros((3, 4, 5), bool)) == ((0, 3), (0, 4), (0, 5))


@given(st.data())
def test_box_is_the_smallest_that_holds_all(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    points = data.draw(st.lists(st.tuples(*[st.integers(0, n - 1) for n in shape]), min_size=1, max_size=5))
    mask = np.zeros(shape, bool)
    for point in points:
        mask[point] = True
    expected = tuple((min(axis), max(axis) + 1) for axis in zip(*points, strict=True))
    assert bounding_box(mask) == expected


@given(st.data())
def test_the_nonzero_box_is_what_every_model_crops_to(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 6)) for _ in range(3))
    image = np.zeros((2, *shape))
    for channel in image:
        for point in data.draw(st.lists(st.tuples(*(st.integers(0, length - 1) for length in shape)), max_size=3)):
            channel[point] = data.draw(st.sampled_from([1.0, -2.0, 1e-50]))  # the last is 0 as float32
    case = Case(image, (1.0, 1.0, 1.0))
    mask = nonzero_mask(image.astype(np.float32))
    assert nonzero_box(case) == bounding_box(mask)
