import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_nnunet_cpu.boxes import Box, inside
from napari_nnunet_cpu.predict.tiles.finality import boxes_of

SHAPE = (4, 5, 6)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    starts = [draw(st.integers(0, length - 1)) for length in SHAPE]
    return Box(*((start, draw(st.integers(start + 1, n))) for start, n in zip(starts, SHAPE, strict=True)))


def mask_of(box: Box | None) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    if box is not None:
        mask[box.slices] = True
    return mask


@given(boxes(), boxes())
def test_what_two_boxes_share(one: Box, other: Box) -> None:
    assert np.array_equal(mask_of(one.common(other)), mask_of(one) & mask_of(other))
    assert one.common(Box.whole(SHAPE)) == one


@given(boxes(), st.tuples(*[st.integers(-9, 9)] * 3))
def test_a_box_moves_and_keeps_its_shape(box: Box, by: tuple[int, int, int]) -> None:
    moved = box.moved(by)
    assert moved.shape == box.shape == mask_of(box)[box.slices].shape
    assert moved.start == tuple(np.add(box.start, by))
    assert moved.seen_from(by) == box == Box.at(box.start, box.shape)
    assert box.seen_from(box.start) == Box.whole(box.shape)


@given(boxes(), st.integers(1, 5))
def test_slabs_make_up_the_box(box: Box, rows: int) -> None:
    slabs = list(box.slabs(rows))
    assert [slab.shape[0] for slab in slabs[:-1]] == [rows] * (len(slabs) - 1)
    assert np.array_equal(sum(mask_of(slab).astype(int) for slab in slabs), mask_of(box))


@given(boxes())
def test_a_box_is_its_numbers(box: Box) -> None:
    """Plain tuples, JSON and text are those of earlier versions, which are in files."""
    plain = tuple(tuple(side) for side in box)
    assert box == plain
    assert {box: 1}[plain] == 1
    assert json.loads(json.dumps(box)) == [list(side) for side in plain]
    assert Box.parse(str(box)) == box
    assert str(Box((0, 2), (1, 3), (0, 14))) == "0:2,1:3,0:14"


@pytest.mark.parametrize("text", ["", "0:1,0:1", "-1:1,0:1,0:1", "0:1_0,0:1,0:1", "0:1,0:1,0:\u0661"])
def test_text_that_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a box"):
        Box.parse(text)


@given(boxes())
def test_around_a_box_there_is_nothing(box: Box) -> None:
    array = np.arange(1, 121).reshape(SHAPE)
    found = inside(array, box)
    assert np.array_equal(found, np.where(mask_of(box), array, 0))
    assert not np.shares_memory(found, array)


@given(arrays(np.bool_, SHAPE))
def test_boxes_make_up_the_mask(mask: np.ndarray) -> None:
    found = np.zeros(SHAPE, int)
    for box in boxes_of(mask):
        found[box.slices] += 1
    assert np.array_equal(found, mask.astype(int))


@given(boxes())
def test_a_box_is_one(box: Box) -> None:
    assert list(boxes_of(mask_of(box))) == [box]
