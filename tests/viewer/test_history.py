"""Metadata of layers: what napari's readers leave is understood, what strangers leave is not trusted."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_nnunet_cpu.viewer.image.axes import parse_axes
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.image.source_geometry import source_affine, source_geometry

SCALE, PLACE = np.array([2.0, 1.25, 1.0]), np.array([3.0, 4.0, 5.0])
ITK = {"ITK_FileNotes": "", "spacing": SCALE, "origin": PLACE, "direction": np.eye(3)}
LPS_NRRD = {
    "space": "left-posterior-superior",
    "space directions": np.diag([1.0, 1.25, 2.0]),
    "space origin": np.zeros(3),
}


def _header(affine: np.ndarray) -> nib.Nifti1Header:
    header: nib.Nifti1Header = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), affine).header
    return header


def test_metadata_of_itk() -> None:
    history = source_geometry(ITK, SCALE, PLACE)
    assert history.names == ("Z", "Y", "X")
    np.testing.assert_array_equal(history.affine, [[-1, 0, 0, -5], [0, -1.25, 0, -4], [0, 0, 2, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    "change",
    [
        {"spacing": SCALE[::-1]},  # as SimpleITK gives it: x, y, z
        {"origin": PLACE[::-1]},
        {"spacing": -SCALE},
        {"spacing": "2, 1.25, 1"},
        {"spacing": 1.0},
        {"direction": np.eye(3).ravel()},
        {"direction": np.ones((3, 3))},
        {"direction": np.full((3, 3), np.nan)},
        {"direction": None},
        {"origin": [[3], [4, 5]]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_conventions_are_not_taken_for_itk(change: dict[str, Any]) -> None:
    assert source_geometry(ITK | change, SCALE, PLACE) is None


def test_the_defaults_of_itk_are_no_header() -> None:
    plain = {"Software": "ITK", "spacing": SCALE, "origin": np.zeros(3), "direction": np.eye(3)}
    assert source_geometry(plain, SCALE, np.zeros(3)) is None
    assert source_geometry(plain | {"0008|0060": "MR"}, SCALE, np.zeros(3)) is not None
    assert source_geometry(plain | {"direction": np.diag([1.0, -1, -1])}, SCALE, np.zeros(3)) is not None


def test_time_that_is_mixed_with_space_is_not_taken_apart() -> None:
    mixed = {"spacing": np.ones(4), "origin": np.ones(4), "direction": np.eye(4)[[1, 0, 2, 3]]}
    assert source_geometry(mixed, np.ones(4), np.ones(4)) is None
    straight = mixed | {"direction": np.eye(4)}
    assert source_geometry(straight, np.ones(4), np.ones(4)).names == (None, "Z", "Y", "X")


def test_an_affine_beside_headers_of_both_formats() -> None:
    turned_to_ras = np.diag([1.0, 1.25, 2, 1])
    for header in (_header(np.diag([-1.0, -1.25, 2, 1])), LPS_NRRD):
        history = source_geometry({"affine": turned_to_ras, "header": header}, SCALE, PLACE)
        assert history.names == ("Z", "-Y", "-X")
        assert history.source == "the file's header"
        np.testing.assert_array_equal(history.affine, turned_to_ras)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "none",
        object(),
        {},
        LPS_NRRD | {"space": "scanner-xyz"},
        LPS_NRRD | {"space directions": "diagonal"},
        LPS_NRRD | {"space directions": [1.0, 2.0, 3.0]},
        LPS_NRRD | {"space directions": np.eye(2)},
        LPS_NRRD | {"space origin": "here"},
        _header(np.array([[1, 1, 0, 0], [-1, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])),
    ],
    ids=["none", "text", "object", "empty", "space", "text-directions", "flat", "two", "origin", "between"],
)
def test_an_affine_beside_no_header_of_use_is_that_of_the_array(header: Any) -> None:
    affine = np.diag([1.0, 1.25, 2, 1])
    history = source_geometry({"affine": affine, "header": header}, SCALE, PLACE)
    assert history.names == ("Z", "Y", "X")
    assert history.source == "the affine in the layer's metadata"
    np.testing.assert_array_equal(history.affine, affine)


JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.just(np.eye(4)) | st.just(np.eye(3)),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=12,
)
NAMES = st.sampled_from(["affine", "header", "spacing", "origin", "direction", 3])


@given(st.dictionaries(NAMES, JUNK, max_size=5), st.integers(2, 5))
def test_junk_is_no_history_or_a_usable_one(metadata: dict[Any, Any], ndim: int) -> None:
    history = source_geometry(metadata, np.ones(ndim), np.zeros(ndim))
    if history is not None:
        assert len(history.names) == ndim
        assert np.isfinite(history.affine).all()
        assert np.linalg.det(history.affine) != 0


@pytest.mark.parametrize("text", ["Z, Y, X", "X, Y, Z", "-Y, Z, -X", "-X, -Z, Y"])
def test_a_voxel_stays_at_its_place_whatever_its_axes_are_called(text: str) -> None:
    shape = (4, 5, 6)
    affine = np.array([[0.1, -1, 0.2, 5], [0.9, 0.3, 0, 6], [0, 0.2, -2, 7], [0, 0, 0, 1]])
    order = parse_axes(text, shape).order
    marked = np.zeros(shape)
    marked[1, 3, 4] = 1
    z, y, x = np.argwhere(order.undo(marked))[0]
    np.testing.assert_allclose(source_affine(affine, order, shape) @ (x, y, z, 1), affine @ (4, 3, 1, 1))


def test_typed_axes_win_over_the_header_and_keep_the_place() -> None:
    array = np.random.default_rng(0).normal(size=(4, 5, 6))
    in_file = np.diag([-1.0, -1.25, 2, 1])
    in_file[:2, 3] = 5  # the last voxels of 6 along x and of 5 along y
    metadata = {"affine": np.diag([1.0, 1.25, 2, 1]), "header": _header(in_file)}
    layer = ViewerModel().add_image(array, scale=(-2, -1.25, -1), metadata=metadata)
    found, typed = image_from_layers([layer]).case(), image_from_layers([layer], axes="X, Y, -Z").case()
    np.testing.assert_array_equal(found.channels[0], array[:, ::-1, ::-1])
    np.testing.assert_array_equal(typed.channels[0], array.transpose(2, 1, 0)[::-1])
    assert typed.spacing_mm == (1, 1.25, 2)
    voxel = {case: np.argwhere(case.channels[0] == array[1, 2, 3])[0] for case in (found, typed)}
    places = [case.affine @ (*zyx[::-1], 1) for case, zyx in voxel.items()]
    np.testing.assert_allclose(places[0], places[1])
    np.testing.assert_allclose(places[0], metadata["affine"] @ (3, 2, 1, 1))
    directions = image_from_layers([layer], axes="I, P, L").case()
    np.testing.assert_array_equal(directions.channels[0], array)
    assert nib.aff2axcodes(directions.affine) == ("L", "P", "I")
