import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_nnunet_cpu.boxes import Bounds, boxes_of, common, inside, slices, whole

SHAPE = (4, 5, 6)


@st.composite
def boxes(draw: st.DrawFn) -> Bounds:
    starts = [draw(st.integers(0, length - 1)) for length in SHAPE]
    z, y, x = ((start, draw(st.integers(start + 1, n))) for start, n in zip(starts, SHAPE, strict=True))
    return z, y, x


def mask_of(box: Bounds | None) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    if box is not None:
        mask[slices(box)] = True
    return mask


@given(boxes(), boxes())
def test_what_two_boxes_share(one: Bounds, other: Bounds) -> None:
    assert np.array_equal(mask_of(common(one, other)), mask_of(one) & mask_of(other))
    assert common(one, whole(SHAPE)) == one


@given(boxes())
def test_around_a_box_there_is_nothing(box: Bounds) -> None:
    array = np.arange(1, 121).reshape(SHAPE)
    found = inside(array, box)
    assert np.array_equal(found, np.where(mask_of(box), array, 0))
    assert not np.shares_memory(found, array)


@given(arrays(np.bool_, SHAPE))
def test_boxes_make_up_the_mask(mask: np.ndarray) -> None:
    found = np.zeros(SHAPE, int)
    for box in boxes_of(mask):
        found[slices(box)] += 1
    assert np.array_equal(found, mask.astype(int))


@given(boxes())
def test_a_box_is_one(box: Bounds) -> None:
    assert list(boxes_of(mask_of(box))) == [box]
