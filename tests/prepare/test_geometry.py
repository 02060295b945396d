from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu import Case
from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.prepare.geometry import AxisOrder, Geometry, to_ras

ORDERS = [AxisOrder(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)]
orders = st.sampled_from(ORDERS)
numbered = np.arange(2 * 3 * 5).reshape(2, 3, 5)


def test_there_are_48_different_orders() -> None:
    cube = np.arange(27).reshape(3, 3, 3)
    assert len({order.apply(cube).tobytes() for order in ORDERS}) == 48


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_undo_undoes_apply(order: AxisOrder) -> None:
    assert np.array_equal(order.undo(order.apply(numbered)), numbered)
    there = order.apply(numbered)
    assert np.array_equal(order.apply(order.undo(there)), there)


def test_apply_by_hand() -> None:
    there = AxisOrder((2, 0, 1), (False, True, False)).apply(numbered)
    assert there.shape == (5, 2, 3)
    for (x, z, y), value in np.ndenumerate(there):
        assert value == numbered[1 - z, y, x]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_permute_follows_the_axes(order: AxisOrder) -> None:
    assert order.permute((2, 3, 5)) == order.apply(numbered).shape


@given(orders, st.permutations(range(3)))
def test_then_is_one_after_the_other(order: AxisOrder, axes: list[int]) -> None:
    further = (axes[0], axes[1], axes[2])
    assert np.array_equal(order.then(further).apply(numbered), order.apply(numbered).transpose(further))


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Rotated by less than 45 degrees from any of the 48 ways an image may lie, unequal spacing, any origin."""
    order = draw(orders)
    turn = np.eye(3)
    for axis in range(3):
        angle = np.deg2rad(draw(st.floats(-20, 20)))
        a, b = [other for other in range(3) if other != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    signed = np.eye(3)[list(order.axes)] * np.where(order.flipped, -1, 1)[:, None]
    affine = np.eye(4)
    affine[:3, :3] = turn @ signed @ np.diag(draw(st.tuples(*[st.floats(0.4, 5)] * 3)))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return affine


@given(affines())
def test_to_ras_is_nibabels_closest_canonical(affine: np.ndarray) -> None:
    array = np.arange(2 * 3 * 5, dtype=np.int16).reshape(5, 3, 2)  # x, y, z
    image = nib.Nifti1Image(array, affine)
    canonical = np.asarray(nib.as_closest_canonical(image).dataobj)
    case = Case(array.transpose(2, 1, 0)[None], (1.0, 1.0, 1.0), affine)
    assert np.array_equal(to_ras(case).apply(case.channels[0]), canonical.transpose(2, 1, 0))


def test_to_ras_needs_an_affine() -> None:
    with pytest.raises(CaseError, match="knee does not say how it lies in space"):
        to_ras(Case(numbered[None], (1.0, 1.0, 1.0), None, "knee"))


def test_to_ras_refuses_a_singular_affine() -> None:
    with pytest.raises(CaseError, match="singular"):
        to_ras(Case(numbered[None], (1.0, 1.0, 1.0), np.diag([1.0, 0.0, 1.0, 1.0])))


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_place_puts_an_asymmetric_marker_back(order: AxisOrder) -> None:
    case = np.zeros((6, 7, 8), np.uint8)
    case[1:4, 2, 3] = 1  # an L with a foot: no turn or reflection maps it on itself
    case[3, 2:5, 3] = 2
    case[3, 4, 3:5] = 3
    seen = order.apply(case)
    inside = np.argwhere(seen)
    box = Box(*((int(a), int(b) + 1) for a, b in zip(inside.min(0), inside.max(0), strict=True)))
    geometry = Geometry(order, seen.shape, box, (1, 1, 1), box.shape, (1, 1, 1))
    assert geometry.cropped_shape == box.shape
    placed = geometry.place(seen[box.slices])
    assert np.array_equal(placed, case)
    assert placed.dtype == np.uint8
    assert placed.flags.c_contiguous
    assert placed.flags.writeable
    assert geometry.case_shape == case.shape
    assert np.shares_memory(geometry.crop(case), case)
    assert np.array_equal(geometry.crop(case), seen[box.slices])


@given(orders, st.data())
def test_boxes_of_the_cropped_image_are_boxes_of_the_case(order: AxisOrder, data: st.DataObject) -> None:
    def box_in(shape: tuple[int, ...]) -> Box:
        starts = [data.draw(st.integers(0, length - 1)) for length in shape]
        return Box(*((start, data.draw(st.integers(start + 1, n))) for start, n in zip(starts, shape, strict=True)))

    case = np.zeros((6, 7, 8), np.uint8)
    full = order.apply(case).shape
    kept = box_in(full)
    geometry = Geometry(order, full, kept, (1, 1, 1), kept.shape, (1, 1, 1))
    box = box_in(kept.shape)
    geometry.crop(case)[box.slices] = 1
    found = geometry.case_box(box)
    assert case[found.slices].all()
    assert case.sum() == np.prod(found.shape)
    assert geometry.cropped_box(found) == box

    wanted = box_in(case.shape)
    marked = np.zeros(case.shape, bool)
    marked[wanted.slices] = True
    part = geometry.cropped_box(wanted)
    assert geometry.crop(marked).sum() == (0 if part is None else geometry.crop(marked)[part.slices].size)
    voxel = tuple(data.draw(st.integers(0, length - 1)) for length in case.shape)
    distance = np.full(case.shape, np.inf)
    for place in np.ndindex(case.shape):
        distance[place] = sum(abs(a - b) for a, b in zip(place, voxel, strict=True))
    near = geometry.crop(distance)
    assert near[geometry.cropped_point(voxel)] == near.min()
