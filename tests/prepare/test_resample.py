import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import resize

from napari_nnunet_cpu.models.plans import ResamplingName, ResamplingOptions
from napari_nnunet_cpu.prepare.resample import Resampler, resampled_shape

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


@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_linear_equals_skimage(shape: Triple, wanted: Triple, seed: int) -> None:
    volume = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    expected = resize(volume.astype(np.float64), wanted, order=1, mode="edge", anti_aliasing=False)
    found = Resampler(order=1, separate_axis=None, separate_order=0).apply(volume, wanted)
    np.testing.assert_allclose(found, expected, atol=1e-5)


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


def test_labels_of_a_third_value_do_not_mix() -> None:
    row = np.array([0, 0, 2, 2], np.int32).reshape(1, 1, 4)
    assert Resampler(1, None, 0).apply_labels(row, (1, 1, 9)).ravel().tolist() == [0, 0, 0, 0, 2, 2, 2, 2, 2]


def test_labels_are_left_alone_where_plans_forbid_resampling() -> None:
    labels = np.arange(8, dtype=np.int32).reshape(2, 2, 2)
    idle = Resampler.from_plans("no_resampling_hack", ResamplingOptions(), (1, 1, 1), (2, 2, 2))
    assert idle.apply_labels(labels, (1, 1, 1)) is labels
