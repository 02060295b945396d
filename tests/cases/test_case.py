import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.cases import case as case_module
from napari_nnunet_cpu.cases.case import SpacingSource, planar_spacing, stack_channels
from napari_nnunet_cpu.errors import CaseError

OBLIQUE = np.array([[0.0, -1.5, 0.0, 7.0], [0.6, 0.0, -2.4, -3.0], [0.8, 0.0, 1.8, 11.0], [0, 0, 0, 1]])


def a_case(shape=(1, 2, 3, 4), value=0.0, dtype=np.float32, **options):
    return Case(np.full(shape, value, dtype), **({"spacing_mm": (3.0, 1.5, 1.0)} | options))


def with_bad_voxels(bad, count):
    channels = np.zeros((2, 2, 3, 4), np.float64)
    channels[1].flat[:count] = bad
    return channels


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (np.zeros((2, 3, 4)), r"expected an array \(C, Z, Y, X\), found 3 axes \(2, 3, 4\)"),
        (np.zeros((1, 0, 3, 4)), r"the image is empty, its shape \(C, Z, Y, X\) is \(1, 0, 3, 4\)"),
        (np.zeros((0, 2, 3, 4)), r"the image is empty, its shape \(C, Z, Y, X\) is \(0, 2, 3, 4\)"),
        (np.zeros((1, 2, 3, 4), complex), "expected real numbers, found dtype complex128"),
        (np.zeros((1, 2, 3, 4), "U1"), "expected real numbers, found dtype <U1"),
        (with_bad_voxels(np.nan, 5), "channel 1 has 5 voxels that are NaN, infinite or beyond 3.4e38; the first is"),
        (with_bad_voxels(1e39, 2), "channel 1 has 2 voxels that are NaN, infinite or beyond 3.4e38"),
        (with_bad_voxels(-np.inf, 1), "channel 1 has 1 voxels that are NaN, infinite or beyond"),
    ],
    ids=["3-axes", "no-voxel", "no-channel", "complex", "text", "nan", "huge", "infinite"],
)
def test_an_array_that_is_no_image_is_refused_with_what_was_found(channels, message):
    with pytest.raises(CaseError, match=f"^patient: {message}"):
        Case(channels, (1.0, 1.0, 1.0), name="patient")


@settings(max_examples=50)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    bad=st.sampled_from([np.nan, np.inf, -np.inf, 1e39, -1.8e308]),
    seed=st.integers(0, 999),
)
def test_what_is_no_number_is_counted_and_placed(shape, bad, seed):
    mask = np.random.default_rng(seed).random(shape) < 0.1
    mask.flat[seed % mask.size] = True
    places = np.argwhere(mask)
    box = ",".join(f"{along.min()}:{along.max() + 1}" for along in places.T)
    with pytest.raises(CaseError) as caught:
        Case(np.where(mask, bad, 7.0)[None], (1.0, 1.0, 1.0), name="patient")
    said = str(caught.value)
    assert f"channel 0 has {len(places)} voxels" in said
    assert f"the first is (Z, Y, X) {tuple(places[0].tolist())}, all lie in the box {box}; set them" in said


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64, np.float16, np.float64], ids=str)
def test_every_real_dtype_is_kept(dtype):
    assert a_case(value=1, dtype=dtype).channels.dtype == dtype


@pytest.mark.parametrize(
    "spacing",
    [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, float("nan")), (float("inf"), 1.0, 1.0), (1.0, 1.0)],
    ids=["zero", "negative", "nan", "infinite", "two-numbers"],
)
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(CaseError, match=r"image: spacing \(Z, Y, X\) is \(.*\) mm; it must be three positive numbers"):
        a_case(spacing_mm=spacing)
    with pytest.raises(CaseError, match="image: (a )?spacing"):
        a_case(affine=np.eye(4)).with_spacing(spacing)


@pytest.mark.parametrize("affine", [np.eye(3), np.full((4, 4), np.nan)], ids=["3x3", "nan"])
def test_an_affine_that_is_none_is_refused(affine):
    with pytest.raises(CaseError, match="the affine must be 4 x 4 finite numbers"):
        a_case(affine=affine)


def test_a_planar_case_has_one_slice():
    with pytest.raises(CaseError, match="a 2D image has one slice, found 2"):
        a_case(planar=True)


def test_a_stated_spacing_is_for_computing_and_moves_nothing():
    case = a_case(affine=OBLIQUE, spacing_source=SpacingSource.ASSUMED).with_spacing((6.0, 0.5, 1.0))
    assert case.spacing_mm == (6.0, 0.5, 1.0)
    assert case.spacing_known
    np.testing.assert_array_equal(case.to_world, OBLIQUE)


def test_a_file_to_train_on_has_the_stated_spacing():
    case = a_case(affine=OBLIQUE).with_spacing((6.0, 0.5, 1.0)).on_grid_of_spacing()
    # Columns are x, y, z: x stays, y shrinks to a third, z doubles, the origin stays.
    expected = [[0.0, -0.5, 0.0, 7.0], [0.6, 0.0, -4.8, -3.0], [0.8, 0.0, 3.6, 11.0], [0, 0, 0, 1]]
    np.testing.assert_allclose(case.affine, expected, rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(case.affine[:3, :3], axis=0)[::-1], case.spacing_mm, rtol=1e-14)
    original = a_case(affine=OBLIQUE)
    assert original.on_grid_of_spacing() is original


@pytest.mark.parametrize("source", SpacingSource)
def test_a_stated_spacing_fills_in_for_none_but_not_for_that_of_the_file(source):
    case = a_case(spacing_mm=(3.0, 2.0, 1.0), spacing_source=source).with_spacing((6.0, 5.0, 4.0))
    kept = (6.0, 5.0, 4.0) if source is SpacingSource.ASSUMED else (3.0, 2.0, 1.0)
    assert case.grid_spacing_mm == kept
    assert case.to_world.diagonal().tolist() == [*kept[::-1], 1.0]
    again = case.with_spacing((1.0, 1.0, 1.0))
    assert again.spacing_mm == (1.0, 1.0, 1.0)


def test_stated_spacing_leaves_the_original_alone():
    affine = OBLIQUE.copy()
    a_case(affine=affine).with_spacing((1.0, 1.0, 1.0))
    np.testing.assert_array_equal(affine, OBLIQUE)


def test_stated_spacing_of_a_planar_case_keeps_nnunets_thickness():
    case = a_case((1, 1, 3, 4), spacing_mm=planar_spacing((1.0, 1.0)), planar=True).with_spacing((1.0, 0.5, 0.25))
    assert case.spacing_mm == (499.5, 0.5, 0.25)


def test_channels_are_stacked_in_the_order_given():
    case = stack_channels([a_case(value=3, name="t1"), a_case((2, 2, 3, 4), value=5, name="t2")])
    assert case.channels[:, 0, 0, 0].tolist() == [3, 5, 5]
    assert case.name == "t1"


def moved(voxels):
    """OBLIQUE, with x as many voxels further along."""
    affine = OBLIQUE.copy()
    affine[:, 3] += affine[:, 0] * voxels
    return affine


@pytest.mark.parametrize(("voxels", "noted"), [(1e-4, False), (0.09, True), (-0.09, True)])
def test_channels_that_lie_almost_at_one_place_are_taken_with_a_note(voxels, noted):
    case = stack_channels([a_case(affine=OBLIQUE, name="t1"), a_case(affine=moved(voxels), name="t2")])
    np.testing.assert_array_equal(case.affine, OBLIQUE)
    assert case.notes == (("t2 lies up to 0.09 voxels away from t1, whose position is used",) if noted else ())


def test_a_channel_that_is_turned_a_little_is_measured_at_its_far_corner():
    turned = OBLIQUE.copy()
    turned[:3, 0] += OBLIQUE[:3, 1] * 0.05  # three voxels along x, so 0.15 along y
    with pytest.raises(CaseError, match=r"t2 is up to 0.15 voxels away from t1"):
        stack_channels([a_case(affine=OBLIQUE, name="t1"), a_case(affine=turned, name="t2")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 2, 3, 5)}, r"differ in shape \(Z, Y, X\): t1 \(2, 3, 4\), t2 \(2, 3, 5\)"),
        (
            {"spacing_mm": (3.0, 1.5, 1.001)},
            r"differ in spacing \(Z, Y, X\): t1 \(3.0, 1.5, 1.0\) mm, t2 \(3.0, 1.5, 1.001\) mm",
        ),
        ({"affine": moved(0.11)}, r"lie at different places: t2 is up to 0.11 voxels away from t1; register"),
    ],
    ids=["shape", "spacing", "affine"],
)
def test_channels_on_different_grids_are_refused_by_name(options, message):
    first = a_case(affine=OBLIQUE, name="t1")
    second = a_case(name="t2", **({"affine": OBLIQUE} | options))
    with pytest.raises(CaseError, match=message):
        stack_channels([first, second])


def test_a_channel_without_an_affine_goes_with_one_that_has_one():
    case = stack_channels([a_case(affine=OBLIQUE), a_case()])
    np.testing.assert_array_equal(case.affine, OBLIQUE)


def test_voxels_are_checked_once_for_all_copies_of_a_case(monkeypatch):
    checked = []
    monkeypatch.setattr(case_module, "check_finite", lambda channels, _: checked.append(channels))
    case = Case(np.zeros((1, 2, 3, 4), np.float32), (1.0, 1.0, 1.0))
    dataclasses.replace(case.with_spacing((2.0, 1.0, 1.0)).on_grid_of_spacing(), name="other")
    assert [channels is case.channels for channels in checked] == [True]
    both = stack_channels([case, case])
    assert len(checked) == 1
    other = dataclasses.replace(both, channels=both.channels + 1)
    assert checked[1:] == [other.channels]
