import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from napari_nnunet_cpu.models.plans import ResamplingName, ResamplingOptions
from napari_nnunet_cpu.prepare.resample import Resampler, resampled_shape

pytestmark = pytest.mark.slow

DEFAULT: ResamplingName = "resample_data_or_seg_to_shape"
TORCH: ResamplingName = "resample_torch_fornnunet"
Triple = tuple[int, int, int]
sizes = st.tuples(*[st.integers(1, 9)] * 3)
KINDS = [
    Resampler(order=3, separate_axis=None, separate_order=0),
    Resampler(order=1, separate_axis=None, separate_order=0),
    Resampler(order=3, separate_axis=0, separate_order=0),
    Resampler(order=1, separate_axis=1, separate_order=1),
    Resampler(order=3, separate_axis=2, separate_order=3),
]


@pytest.mark.parametrize(
    ("length", "current", "target", "expected"),
    [
        (5, 1.0, 2.0, 2),  # 2.5 and 3.5: halves go to the even number
        (7, 1.0, 2.0, 4),
        (10, 0.5, 1.0, 5),
        (10, 3.0, 1.0, 30),
        (10, 1.0, 1.0, 10),
        (3, 0.8, 1.0, 2),  # 2.4
    ],
)
def test_resampled_shape(length: int, current: float, target: float, expected: int) -> None:
    assert resampled_shape((length, 4, 6), (current, 1, 1), (target, 1, 2)) == (expected, 4, 3)


# Which axis is resampled on its own. Written down from nnU-Net's rule: more than three times coarser, in the spacing
# there is or else in the one to come; never where the coarsest is not alone.
AXES = [
    ((1, 1, 1), (1, 1, 1), None, None),
    ((3, 1, 1), (1, 1, 1), None, None),  # three times is not more than three times
    ((3.1, 1, 1), (1, 1, 1), None, 0),
    ((1, 3.1, 1), (1, 1, 1), None, 1),
    ((0.8, 1, 4), (1, 1, 1), None, 2),
    ((1, 1, 1), (1, 1, 3.5), None, 2),
    ((4, 1, 1), (1, 1, 4), None, 0),  # the spacing there is decides
    ((4, 4, 1), (1, 1, 1), None, None),
    ((4, 4, 1), (1, 1, 5), None, None),  # also when it says no
    ((4, 1, 1), (1, 1, 1), False, None),
    ((1, 1.5, 1), (1, 1, 1), True, 1),
    ((1, 1, 1), (5, 1, 1), True, None),
    ((2, 2, 1), (1, 1, 1), True, None),
]


@pytest.mark.parametrize("function", [DEFAULT, TORCH])
@pytest.mark.parametrize(("current", "target", "force", "axis"), AXES)
def test_separate_axis(
    current: Triple, target: Triple, force: bool | None, axis: int | None, function: ResamplingName
) -> None:
    options = ResamplingOptions(force_separate_z=force)
    assert Resampler.from_plans(function, options, current, target).separate_axis == axis


def test_separate_axis_by_another_threshold() -> None:
    options = ResamplingOptions(force_separate_z=None, separate_z_anisotropy_threshold=1.5)
    assert Resampler.from_plans(DEFAULT, options, (1, 2, 1), (1, 1, 1)).separate_axis == 1


def test_options_left_out_are_those_of_nnunets_functions() -> None:
    """force_separate_z is False in the signature that plans meet first, None in torch's."""
    coarse = ((4, 1, 1), (1, 1, 1))
    assert Resampler.from_plans(DEFAULT, ResamplingOptions(order=2, order_z=1), *coarse).order == 2
    assert Resampler.from_plans(TORCH, ResamplingOptions(order=3), *coarse) == Resampler(1, 0, 0, TORCH)
    linear = ResamplingOptions(aniso_axis_mode="linear")
    assert Resampler.from_plans(TORCH, linear, *coarse) == Resampler(1, 0, 1, TORCH)


@pytest.mark.parametrize("resampler", KINDS, ids=str)
@given(sizes, sizes, st.floats(-1000, 1000, width=32))
def test_constant_stays_constant(resampler: Resampler, shape: Triple, wanted: Triple, value: float) -> None:
    found = resampler.apply(np.full(shape, value, np.float32), wanted)
    assert found.shape == wanted
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, value, rtol=1e-6, atol=1e-6)


def ramp(shape: Triple, axis: int) -> np.ndarray:
    return np.moveaxis(np.broadcast_to(np.arange(shape[axis], dtype=np.float32)[:, None, None],
                                       (shape[axis], *np.delete(shape, axis))), 0, axis).copy()  # fmt: skip


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("length", [6, 12, 15, 24, 31])
@pytest.mark.parametrize("order", [1, 3])
def test_linear_ramp_stays_linear_inside(axis: int, length: int, order: int) -> None:
    shape, wanted = (12, 12, 12), tuple(length if a == axis else 12 for a in range(3))
    found = Resampler(order, None, 0).apply(ramp(shape, axis), wanted)
    centers = (np.arange(length) + 0.5) * 12 / length - 0.5
    inside = (centers >= 0) & (centers <= 11) if order == 1 else (centers >= 4) & (centers <= 7)
    lines = np.moveaxis(found, axis, -1)[..., inside]
    # A cubic spline feels the bend at the edge, and forgets all but sqrt(3) - 2 of it with every voxel.
    tolerance = 1e-5 if order == 1 else (2 - 3**0.5) ** 4
    np.testing.assert_allclose(lines, np.broadcast_to(centers[inside], lines.shape), atol=tolerance)


def as_nnunet(volume: np.ndarray, shape: Triple, resampler: Resampler) -> np.ndarray:
    """`resample_data_or_seg` of nnU-Net: slice by slice and then along the axis, in float64."""
    volume, axis = volume.astype(np.float64), resampler.separate_axis
    if axis is None:
        return resize(volume, shape, resampler.order, mode="edge", anti_aliasing=False)
    plane = shape[:axis] + shape[axis + 1 :]
    slices = [resize(part, plane, resampler.order, mode="edge", anti_aliasing=False)
              for part in np.moveaxis(volume, axis, 0)]  # fmt: skip
    pile = np.stack(slices, axis)
    if pile.shape == shape:
        return pile
    grid = [now / then * (index + 0.5) - 0.5 for now, then, index in
            zip(pile.shape, shape, np.mgrid[tuple(map(slice, shape))], strict=True)]  # fmt: skip
    return map_coordinates(pile, grid, order=resampler.separate_order, mode="nearest")


# Lengths of 1, 2 and 3, where all is border, and some beyond what a spline remembers.
long_and_short = st.tuples(*[st.one_of(st.integers(1, 3), st.integers(1, 45))] * 3)


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 4, 5])
@settings(max_examples=40)
@given(long_and_short, long_and_short, st.integers(0, 3), st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 1e3]))
def test_equals_nnunet(
    order: int, axis: int | None, shape: Triple, wanted: Triple, separate_order: int, seed: int, offset: float
) -> None:
    volume = (np.random.default_rng(seed).normal(size=shape) + offset).astype(np.float32)
    resampler = Resampler(order, axis, separate_order)
    expected = as_nnunet(volume, wanted, resampler)
    found = resampler.apply(volume, wanted)
    spread, rounding = np.ptp(volume), 4 * np.finfo(np.float32).eps * np.abs(volume).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * spread + rounding)
    assert found.flags.c_contiguous
    if axis is None or separate_order < 2:
        assert found.min() >= volume.min() - rounding
        assert found.max() <= volume.max() + rounding


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_an_image_far_from_zero_is_interpolated_as_finely(order: int) -> None:
    volume = (np.random.default_rng(4).normal(size=(20, 30, 40)) + 30000).astype(np.float32)
    resampler = Resampler(order, None, 0)
    expected = as_nnunet(volume, (31, 17, 40), resampler).astype(np.float32)
    np.testing.assert_array_max_ulp(resampler.apply(volume, (31, 17, 40)), expected, maxulp=1)


@pytest.mark.parametrize("turned", [lambda v: v.transpose(2, 0, 1), lambda v: v[::2, 1:-1, ::-1]])
def test_views_are_resampled_like_arrays(turned: Callable[[np.ndarray], np.ndarray]) -> None:
    volume = turned(np.random.default_rng(2).normal(size=(20, 22, 24)).astype(np.float32))
    for resampler in KINDS:
        found = resampler.apply(volume, (15, 31, 17))
        assert np.array_equal(found, resampler.apply(volume.copy(), (15, 31, 17)))
        assert found.flags.c_contiguous


@pytest.mark.parametrize("resampler", [Resampler(3, None, 0), Resampler(3, 0, 0), Resampler(3, 2, 3)], ids=str)
def test_memory_is_that_of_a_few_volumes(resampler: Resampler) -> None:
    volume = np.random.default_rng(3).normal(size=(60, 120, 120)).astype(np.float32)
    wanted = (90, 70, 70)
    resampler.apply(volume, wanted)  # so that what is only made once is there
    tracemalloc.start()
    try:
        resampler.apply(volume, wanted)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * volume.nbytes


def test_cubic_never_leaves_the_range_of_the_input() -> None:
    volume = np.zeros((8, 8, 8), np.float32)
    volume[4:] = 100
    found = Resampler(order=3, separate_axis=None, separate_order=0).apply(volume, (19, 8, 8))
    assert found.min() == 0
    assert found.max() == 100


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_separate_axis_takes_the_nearest_slice(axis: int) -> None:
    volume = ramp((3, 4, 5), axis)
    wanted = tuple(7 if a == axis else n for a, n in enumerate(volume.shape))
    found = Resampler(order=3, separate_axis=axis, separate_order=0).apply(volume, wanted)
    n = volume.shape[axis]
    # half-way between two slices: the later one
    nearest = [min(range(n), key=lambda s: (abs((s + 0.5) / n - (i + 0.5) / 7), -s)) for i in range(7)]
    assert np.moveaxis(found, axis, 0)[:, 0, 0].tolist() == nearest
    assert found.flags.c_contiguous


def test_separate_axis_leaves_slices_to_themselves() -> None:
    volume = np.zeros((3, 8, 8), np.float32)
    volume[1] = np.random.default_rng(0).normal(size=(8, 8))
    found = Resampler(order=3, separate_axis=0, separate_order=0).apply(volume, (3, 11, 6))
    assert np.abs(found[1]).max() > 1
    assert not found[[0, 2]].any()
    expected = resize(volume[1].astype(np.float64), (11, 6), order=3, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(found[1], expected, atol=1e-6)


def test_nothing_to_do_gives_the_volume_itself() -> None:
    volume = np.ones((2, 3, 4), np.float32)
    assert Resampler(3, None, 0).apply(volume, (2, 3, 4)) is volume
    forbidden = Resampler.from_plans("no_resampling_hack", ResamplingOptions(), (1, 1, 1), (2, 2, 2))
    assert forbidden.apply(volume, (9, 9, 9)) is volume


@pytest.mark.parametrize("resampler", KINDS, ids=str)
def test_the_input_is_left_alone(resampler: Resampler) -> None:
    volume = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32)
    before = volume.copy()
    resampler.apply(volume, (6, 4, 9))
    assert np.array_equal(volume, before)


LABEL_KINDS = [
    Resampler(1, None, 0),
    Resampler(0, None, 0),
    Resampler(1, 0, 0),
    Resampler(1, 2, 1),
    Resampler(1, None, 0, TORCH),
    Resampler(1, 1, 0, TORCH),
    Resampler(1, 1, 1, TORCH),
]


@pytest.mark.parametrize("resampler", LABEL_KINDS, ids=str)
@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_no_label_appears_that_was_not_there(resampler: Resampler, shape: Triple, wanted: Triple, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(-1, 4, shape).astype(np.int32) * 100
    found = resampler.apply_labels(labels, wanted)
    assert found.shape == wanted
    assert found.dtype == np.int32
    assert set(np.unique(found)) <= set(np.unique(labels)) | ({0} if resampler.separate_order else set())
    assert np.array_equal(resampler.apply_labels(labels, shape), labels)


@pytest.mark.parametrize("resampler", LABEL_KINDS, ids=str)
def test_a_border_of_labels_stays_where_it_is(resampler: Resampler) -> None:
    labels = np.zeros((6, 6, 6), np.int32)
    labels[3:] = 7
    expected = np.zeros((18, 6, 6), np.int32)
    expected[9:] = 7
    assert np.array_equal(resampler.apply_labels(labels, (18, 6, 6)), expected)
    assert np.array_equal(resampler.apply_labels(np.moveaxis(labels, 0, 2), (6, 6, 18)), np.moveaxis(expected, 0, 2))


def test_of_equal_labels_the_nearest_wins_or_for_torch_the_smallest() -> None:
    row = np.array([5, 2], np.int32).reshape(1, 1, 2)
    assert Resampler(1, None, 0).apply_labels(row, (1, 1, 1)).item() == 2  # skimage's nearest of the middle
    assert Resampler(1, None, 0).apply_labels(row[..., ::-1], (1, 1, 1)).item() == 5
    assert Resampler(1, None, 0, TORCH).apply_labels(row, (1, 1, 1)).item() == 2
    assert Resampler(1, None, 0, TORCH).apply_labels(row[..., ::-1], (1, 1, 1)).item() == 2


def test_along_a_separate_axis_a_label_needs_more_than_half() -> None:
    """Of linear shares 3/4, 1/4: the larger; of halves nobody's. Source: nnU-Net rounds halves down and asks for 1."""
    column = np.array([5, 2], np.int32).reshape(2, 1, 1)
    assert Resampler(1, 0, 1).apply_labels(column, (4, 1, 1)).ravel().tolist() == [5, 5, 2, 2]
    assert Resampler(1, 0, 1).apply_labels(column, (3, 1, 1)).ravel().tolist() == [5, 0, 2]
    assert Resampler(1, 0, 3).apply_labels(column, (3, 1, 1)).ravel().tolist() == [5, 0, 2]


def test_labels_of_a_third_value_do_not_mix() -> None:
    row = np.array([0, 0, 2, 2], np.int32).reshape(1, 1, 4)
    assert Resampler(1, None, 0).apply_labels(row, (1, 1, 9)).ravel().tolist() == [0, 0, 0, 0, 2, 2, 2, 2, 2]


def test_labels_are_left_alone_where_plans_forbid_resampling() -> None:
    labels = np.arange(8, dtype=np.int32).reshape(2, 2, 2)
    idle = Resampler.from_plans("no_resampling_hack", ResamplingOptions(), (1, 1, 1), (2, 2, 2))
    assert idle.apply_labels(labels, (1, 1, 1)) is labels
