"""Which way round: the axes that are assumed, those that the user types, and directions of the body."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import expected_labels, messages, type_into
from napari.components import ViewerModel
from random_model import RandomModel

from napari_nnunet_cpu import Case, Settings, load_model, sample_image, segment, segment_layer
from napari_nnunet_cpu.cases import read_case
from napari_nnunet_cpu.errors import CaseError, SettingsError
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.image.sample import case_layer


@pytest.fixture(scope="session")
def reorienting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that turns images to RAS first."""
    model = RandomModel(patch=(8, 8, 8), reader="NibabelIOWithReorient")
    return model.write(tmp_path_factory.mktemp("reorienting"))


def test_axes_are_assumed_and_can_be_typed(viewer, widget, choose, finish, one, channels) -> None:
    volume = channels[0]
    stored = viewer.add_image(volume.transpose(2, 1, 0)[::-1], name="stored the other way round")
    choose(one)
    assert widget.channels.axes.value == "Z, Y, X"
    assert widget.channels.note.value.startswith("axes assumed\n")
    type_into(widget.channels.axes, "-X, Y, Z")
    assert widget.channels.note.value.startswith("axes as typed\n")
    assert widget.run() is not None, messages()
    finish()
    labels = viewer.layers[-1]
    expected = expected_labels(one, volume[None])
    np.testing.assert_array_equal(labels.data, expected.transpose(2, 1, 0)[::-1])
    assert not np.array_equal(labels.data, expected_labels(one, np.asarray(stored.data)[None]))
    assert labels.metadata["nnunet"]["image"]["axes"] == "-X, Y, Z"
    np.testing.assert_allclose(labels.data_to_world((1, 2, 3)), stored.data_to_world((1, 2, 3)))


def test_typed_axes_that_make_no_sense(viewer, widget, cost, choose, one, channels) -> None:
    viewer.add_image(channels[0])
    choose(one)
    type_into(widget.channels.axes, "Z, Y, Y")
    assert "Y twice" in widget.channels.note.value
    assert cost() == ""  # it is said once
    assert widget.run() is None
    assert messages() == ["axes are 'Z, Y, Y', with Y twice; name each axis once"]
    type_into(widget.channels.axes, "")
    assert widget.channels.axes.value == "Z, Y, X"
    assert "up to" in cost()


def test_typed_axes_stay_with_their_layer(viewer, widget, choose, one, channels) -> None:
    first = viewer.add_image(channels[0], name="first")
    choose(one)
    type_into(widget.channels.axes, "X, Y, Z")
    second = viewer.add_image(channels[1], name="second")
    first.scale = (3, 2, 1)
    assert widget.channels.axes.value == "X, Y, Z"
    assert widget.channels.spacing.value == "1, 2, 3"
    widget.channels.boxes[0].value = second
    assert widget.channels.axes.value == "Z, Y, X"


def test_axis_labels_of_the_layer_are_followed(viewer, widget, choose, one, channels) -> None:
    layer = viewer.add_image(channels[0], scale=(1, 1, 3))
    choose(one)
    assert widget.channels.spacing.value == "1, 1, 3"
    layer.axis_labels = ("x", "y", "z")
    assert widget.channels.axes.value == "X, Y, Z"
    assert widget.channels.spacing.value == "3, 1, 1"
    assert "axes from the layer's axis labels" in widget.channels.note.value


def test_spacing_is_that_of_the_named_axes(one, channels) -> None:
    viewer = ViewerModel()
    source = viewer.add_image(channels[0].transpose(2, 1, 0))
    labels = segment_layer(viewer, source, one, Settings.fast(), axes="X, Y, Z", spacing_mm=(2, 1.5, 1))
    expected = segment(Case(channels[:1], (2, 1.5, 1)), load_model(one), Settings.fast()).labels
    np.testing.assert_array_equal(labels.data, expected.transpose(2, 1, 0))


def test_the_sample_is_known(viewer, widget, choose, one) -> None:
    viewer.open_sample("napari-nnunet-cpu", "t1_head")
    choose(one)
    assert widget.channels.axes.value == "Z, Y, X"
    assert widget.channels.note.value.startswith("axes from the affine in the layer's metadata\n")


def test_a_model_that_turns_images_needs_directions(viewer, widget, choose, finish, reorienting, channels) -> None:
    volume = channels[0]
    viewer.add_image(volume, name="scan", scale=(1, 1, 1))
    choose(reorienting)
    note = widget.channels.note.value
    assert "this model turns images to RAS first (NibabelIOWithReorient)" in note
    assert "type the directions in which they run, as S, A, R" in note
    assert widget.run() is None
    assert "scan does not say how it lies in space" in messages()[-1]
    type_into(widget.channels.axes, "I, P, L")
    assert "RAS" not in widget.channels.note.value
    assert widget.run() is not None, messages()
    finish()
    expected = _labels_in_ras(reorienting, volume[::-1, ::-1, ::-1])
    np.testing.assert_array_equal(viewer.layers[-1].data, expected[::-1, ::-1, ::-1])


@pytest.mark.parametrize("axes", ["S, A, R", "I, P, L", "A, L, S", "L, I, P"])
def test_directions_turn_the_image(reorienting, channels, axes: str) -> None:
    in_ras = channels[0]
    ornt = nib.orientations.axcodes2ornt(axes.split(", "), labels=(("I", "S"), ("P", "A"), ("L", "R")))
    turn = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], ornt)
    viewer = ViewerModel()
    source = viewer.add_image(nib.orientations.apply_orientation(in_ras, turn))
    labels = segment_layer(viewer, source, reorienting, Settings.fast(), axes=axes)
    expected = _labels_in_ras(reorienting, in_ras)
    np.testing.assert_array_equal(labels.data, nib.orientations.apply_orientation(expected, turn))


def _labels_in_ras(model: Path, in_ras: np.ndarray) -> np.ndarray:
    case = Case(in_ras[None], (1.0, 1.0, 1.0), np.eye(4))
    labels = segment(case, load_model(model), Settings.fast()).labels
    assert len(np.unique(labels)) == 3
    return labels


def test_the_sample_needs_no_directions() -> None:
    expected = read_case(sample_image())
    case = image_from_layers([case_layer(expected)]).case()
    np.testing.assert_array_equal(case.channels, expected.channels)
    np.testing.assert_allclose(case.affine, expected.affine)
    np.testing.assert_allclose(case.spacing_mm, expected.spacing_mm)


def test_scripts_are_told_the_same(one, reorienting, channels) -> None:
    viewer = ViewerModel()
    viewer.add_image(channels[0], name="scan")
    with pytest.raises(SettingsError, match="Q is not one of"):
        segment_layer(viewer, "scan", one, axes="Q, Y, X")
    with pytest.raises(SettingsError, match="2 axes, but the image has 3"):
        segment_layer(viewer, "scan", one, axes="Y, X")
    with pytest.raises(CaseError, match="does not say how it lies"):
        segment_layer(viewer, "scan", reorienting)


@pytest.mark.parametrize(
    ("place", "unused"),
    [({"scale": (3, 2, 1)}, "the layer's scale is not used"), ({}, "none is needed")],
    ids=["pixel-size", "unknown"],
)
def test_models_of_voxels_say_so(viewer, widget, choose, finish, tmp_path, channels, place, unused: str) -> None:
    viewer.add_image(channels[0], **place)
    model = RandomModel(patch=(8, 8, 8), reader="Tiff3DIO").write(tmp_path)
    choose(model)
    assert widget.channels.spacing.value == "1, 1, 1"
    note = "trained on voxels, not millimetres (Tiff3DIO): " + unused + "; type Z, Y, X to override"
    assert note in widget.channels.note.value
    assert widget.run() is not None, messages()
    finish()
    np.testing.assert_array_equal(viewer.layers[-1].data, expected_labels(model, channels[:1]))


def test_models_of_voxels_take_what_is_typed(viewer, widget, choose, finish, tmp_path, channels) -> None:
    viewer.add_image(channels[0], scale=(3, 2, 1))
    model = RandomModel(patch=(8, 8, 8), reader="Tiff3DIO").write(tmp_path)
    choose(model)
    type_into(widget.channels.spacing, "2, 1, 1")
    assert "spacing as typed" in widget.channels.note.value
    assert widget.run() is not None, messages()
    finish()
    expected = segment(Case(channels[:1], (2.0, 1.0, 1.0)), load_model(model), Settings.fast()).labels
    np.testing.assert_array_equal(viewer.layers[-1].data, expected)
