"""Which layers the channels are guessed to be, again and again until the user chooses by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import expected_labels, messages, type_into
from napari.components import ViewerModel
from napari.layers import Image
from random_model import RandomModel

from napari_nnunet_cpu import Settings, load_model, segment_layer
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.viewer.widget.channel_guess import guess_channels
from napari_nnunet_cpu.viewer.widget.channel_picker import ChannelPicker


@pytest.fixture
def boxes(qtbot, three):
    """A viewer, and the choice of three channels: CT, PET, MR."""
    viewer = ViewerModel()
    choice = ChannelPicker(viewer, lambda: None)
    for event in ("inserted", "removed", "reordered", "renamed"):  # as napari does for a panel
        getattr(viewer.layers.events, event).connect(choice.reset_choices)
    choice.set_model(load_model(three))
    return viewer, choice


def chosen(choice: ChannelPicker) -> list[str | None]:
    return [None if box.value is None else box.value.name for box in choice.boxes]


def scan() -> np.ndarray:
    return np.zeros((4, 5, 6), np.float32)


@pytest.mark.parametrize("order", list(itertools.permutations(["my CT", "pet-2", "the mr"])))
def test_layers_that_are_opened_after_the_model_find_their_box(boxes, order) -> None:
    viewer, choice = boxes
    viewer.add_image(scan(), name="another")
    for name in order:
        viewer.add_image(scan(), name=name)
    assert chosen(choice) == ["my CT", "pet-2", "the mr"]


@pytest.mark.parametrize("names", list(itertools.permutations(["T1", "T1 gd", "T2"])))
def test_a_longer_name_goes_before_one_that_it_contains(names: tuple[str, ...]) -> None:
    layers = [Image(scan(), name=name) for name in ("my T1 gd", "my T1", "my T2")]
    guessed = guess_channels(names, layers, [], [], lambda _: False)
    assert [layer.name for layer in guessed if layer is not None] == [f"my {name}" for name in names]


def test_layers_without_names_come_in_order(boxes) -> None:
    viewer, choice = boxes
    for name in "abcd":
        viewer.add_image(scan(), name=name)
    assert chosen(choice) == ["a", "b", "c"]
    viewer.layers["d"].name = "PET"
    assert chosen(choice) == ["a", "PET", "b"]
    viewer.layers.remove("a")
    assert chosen(choice) == ["b", "PET", "c"]


def test_a_choice_by_hand_holds_while_its_layer_is_there(boxes) -> None:
    viewer, choice = boxes
    for name in "abc":
        viewer.add_image(scan(), name=name)
    choice.boxes[1].value = viewer.layers["a"]
    viewer.add_image(scan(), name="PET")
    assert chosen(choice) == ["a", "a", "c"]
    viewer.layers.remove("a")
    assert chosen(choice) == ["b", "PET", "c"]


@pytest.mark.parametrize("field", ["spacing", "axes"])
def test_what_was_typed_for_layers_holds_while_they_are_there(boxes, field: str) -> None:
    viewer, choice = boxes
    for name in "abc":
        viewer.add_image(scan(), name=name)
    type_into(getattr(choice, field), "2, 2, 2" if field == "spacing" else "X, Y, Z")
    viewer.add_image(scan(), name="PET")
    assert chosen(choice) == ["a", "b", "c"]
    assert getattr(choice, field).typed is not None
    viewer.layers.remove("c")
    assert chosen(choice) == ["a", "PET", "b"]
    assert getattr(choice, field).typed is None


def test_other_layers_and_selections_change_nothing(boxes) -> None:
    viewer, choice = boxes
    for name in "abcd":
        viewer.add_image(scan(), name=name)
    viewer.layers.selection = {viewer.layers[name] for name in "bcd"}
    viewer.add_labels(np.zeros((4, 5, 6), int))
    viewer.layers.selection.active = viewer.layers["d"]
    assert chosen(choice) == ["a", "b", "c"]


def test_one_channel_follows_the_selected_image(boxes, one) -> None:
    viewer, choice = boxes
    choice.set_model(load_model(one))  # its channel is called CT
    for name in ("first CT", "b", "c"):
        viewer.add_image(scan(), name=name)
        assert chosen(choice) == [name]
    viewer.layers.selection.active = viewer.layers["b"]
    assert chosen(choice) == ["b"]
    labels = viewer.add_labels(np.zeros((4, 5, 6), int))
    assert viewer.layers.selection.active is labels
    assert chosen(choice) == ["b"]
    viewer.layers.selection.clear()
    assert chosen(choice) == ["b"]
    choice.boxes[0].value = viewer.layers["c"]
    viewer.layers.selection.active = viewer.layers["first CT"]
    assert chosen(choice) == ["c"]
    viewer.layers.remove("c")
    assert chosen(choice) == ["first CT"]


def test_a_uncertainty_is_not_taken_for_an_image(boxes, one, channels) -> None:
    viewer, choice = boxes
    choice.set_model(load_model(one))
    viewer.add_image(channels[0], name="scan")
    segment_layer(viewer, "scan", one, Settings.draft(uncertainty="margin"))
    viewer.layers.selection.active = viewer.layers["scan uncertainty (uncalibrated)"]
    assert chosen(choice) == ["scan"]


def test_four_channels_that_napari_took_for_colours(viewer, widget, choose, finish, tmp_path) -> None:
    four = np.random.default_rng(0).integers(0, 255, (12, 33, 34, 4)).astype(np.uint8)
    source = viewer.add_image(four, name="scan")
    assert source.rgb
    model = RandomModel(patch=(8, 16, 16), channels=("T1", "T1ce", "T2", "FLAIR")).write(tmp_path)
    choose(model)
    assert [box.value for box in widget.channels.boxes] == [source] * 4
    assert widget.run() is not None, messages()
    finish()
    np.testing.assert_array_equal(viewer.layers[-1].data, expected_labels(model, np.moveaxis(four, -1, 0)))


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((12, 33, 34, 4), 1), ((12, 33, 34, 4), 2), ((33, 34, 4), 1), ((12, 33, 34, 3), 1)],
)
def test_colours_that_a_model_does_not_want(tmp_path, shape, channels: int) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros(shape, np.uint8), name="my scan", rgb=True)
    model = RandomModel(patch=(8, 16, 16), channels=tuple("abcd"[:channels])).write(tmp_path)
    with pytest.raises(CaseError) as caught:
        segment_layer(viewer, "my scan", model)
    said = (
        f"napari shows the last axis of my scan, of shape {shape}, as colours, but the model has {channels} channel(s)"
    )
    assert str(caught.value).startswith(said)
    again = str(caught.value).split(" with ")[1].split(" in its console")[0]
    assert not eval(again, {"viewer": viewer}).rgb  # as the user would type it
