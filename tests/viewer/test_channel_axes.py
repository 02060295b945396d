"""Layers with an axis for channels: how it is found, and where their labels lie."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import expected_labels, label_shown, messages, type_into
from napari.components import ViewerModel

from napari_nnunet_cpu import Settings, segment_layer

ROTATED = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])


@pytest.fixture(scope="module")
def expected(three, channels) -> np.ndarray:
    return expected_labels(three, channels)


@pytest.mark.parametrize(
    ("to_layer", "axes"),
    [
        (lambda czyx: czyx, "C, Z, Y, X"),
        (lambda czyx: czyx.transpose(1, 0, 2, 3), "Z, C, Y, X"),
        (lambda czyx: czyx.transpose(1, 2, 3, 0), "Z, Y, X, C"),
        (lambda czyx: czyx[None], "T, C, Z, Y, X"),
        (lambda czyx: czyx.transpose(1, 0, 2, 3)[None], "T, Z, C, Y, X"),
    ],
    ids=["CZYX", "ZCYX", "ZYXC", "TCZYX", "TZCYX"],
)
def test_a_channel_axis_is_found(
    viewer, widget, choose, finish, three, channels, expected, to_layer, axes: str
) -> None:
    source = viewer.add_image(to_layer(channels), name="all three")
    choose(three)
    assert [box.value for box in widget.channels.boxes] == [source] * 3
    assert widget.channels.axes.value == axes
    assert "axes assumed" in widget.channels.note.value
    assert widget.run() is not None, messages()
    finish()
    labels = viewer.layers[-1]
    assert labels is not source, messages()
    np.testing.assert_array_equal(labels.data.reshape(expected.shape), expected)
    letters = axes.split(", ")
    shown = [letter for letter in letters if letter != "C" or letters[0] != "C"]
    assert labels.data.shape == tuple({"T": 1, "C": 1, "Z": 12, "Y": 14, "X": 13}[letter] for letter in shown)
    where = {"T": (0,), "C": (0, 1, 2), "Z": (0, 5, 11), "Y": (6,), "X": (7,)}
    for voxel in itertools.product(*(where[letter] for letter in letters)):
        at = dict(zip(letters, voxel, strict=True))
        value = label_shown(viewer, labels, source, voxel)
        assert value == expected[at["Z"], at["Y"], at["X"]], voxel


@pytest.mark.parametrize("axes", ["C, Z, Y, X", "Z, C, Y, X", "T, C, Z, Y, X"])
@pytest.mark.parametrize("moved_by", ["scale", "rotate", "shear", "affine"])
def test_labels_lie_on_every_channel(three, channels, expected, moved_by: str, axes: str) -> None:
    viewer = ViewerModel()
    letters = axes.split(", ")
    array = np.moveaxis(channels, 0, letters.index("C") - letters.count("T"))
    array = array[None] if "T" in letters else array
    source = viewer.add_image(array, **_place(moved_by, letters))
    labels = segment_layer(viewer, source, three, Settings.fast(), spacing_mm=(1, 1, 1), axes=axes)
    np.testing.assert_array_equal(labels.data.reshape(expected.shape), expected)
    for c, z, (y, x) in itertools.product((0, 1, 2), (0, 6, 11), ((3, 0), (7, 12))):
        at = {"T": 0, "C": c, "Z": z, "Y": y, "X": x}
        assert label_shown(viewer, labels, source, [at[letter] for letter in letters]) == expected[z, y, x], at
        # Where the channels' axis is kept, its one voxel lies in the middle of them.
        voxel = [at[letter] for letter in letters if letter != "C" or letters[0] != "C"]
        if len(voxel) == len(letters):
            at["C"], voxel[letters.index("C")] = 1, 0
        there = source.data_to_world([at[letter] for letter in letters])[-labels.ndim :]
        np.testing.assert_allclose(labels.data_to_world(voxel), there)
    assert labels.units == source.units[-labels.ndim :]
    assert labels.axis_labels == source.axis_labels[-labels.ndim :]


def _place(moved_by: str, letters: list[str]) -> dict:
    """Keyword arguments that move a layer; time and channels have a step and a start of their own."""
    matrix = np.eye(len(letters) + 1)
    of_space = [number for number, letter in enumerate(letters) if letter in "ZYX"]
    turn = np.array([[1, 0, 0], [0, 1, 0.3], [0, 0, 1]]) if moved_by == "shear" else ROTATED
    matrix[np.ix_(of_space, of_space)] = turn if moved_by != "affine" else turn * [-2, 1, 1]
    place = {
        "scale": [{"T": 1.5, "C": 2.5, "Z": 3, "Y": 2, "X": 0.5}[letter] for letter in letters],
        "translate": [{"T": 20, "C": 30, "Z": -7, "Y": 5, "X": 9}[letter] for letter in letters],
        "units": ["pixel" if letter in "TC" else "mm" for letter in letters],
        "axis_labels": [f"{letter} of mine" for letter in letters],
    }
    return place | {"scale": {}, "affine": {"affine": matrix}}.get(moved_by, {moved_by: matrix[:-1, :-1]})


@pytest.mark.parametrize("axes", ["C, Z, Y, X", "Z, C, Y, X"])
@pytest.mark.parametrize("mixed_by", ["affine", "shear", "rotate"])
def test_channels_that_are_mixed_with_slices_keep_their_axis(three, channels, mixed_by: str, axes: str) -> None:
    channel = axes.split(", ").index("C")
    matrix = np.eye(5)
    matrix[0, 1] = 0.5
    if mixed_by == "rotate":
        matrix[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    place = {"affine": matrix} if mixed_by == "affine" else {mixed_by: matrix[:4, :4]}
    viewer = ViewerModel()
    source = viewer.add_image(np.moveaxis(channels, 0, channel), scale=(2, 3, 1, 1), **place)
    labels = segment_layer(viewer, source, three, Settings.fast(), spacing_mm=(1, 1, 1), axes=axes)
    assert labels.data.shape == ((1, 12) if channel == 0 else (12, 1)) + (14, 13)
    for number in range(3):
        voxel, expected = np.array([7.0, 7, 4, 5]), np.array([7.0, 7, 4, 5])
        voxel[channel], expected[channel] = number, (number - 1) / 3
        np.testing.assert_allclose(labels.world_to_data(source.data_to_world(voxel)), expected, atol=1e-12)


def test_channels_of_planes(viewer, widget, choose, finish, planes, channels) -> None:
    plane = channels[:, 6]
    source = viewer.add_image(plane)
    choose(planes)
    assert widget.channels.axes.value == "C, Y, X"
    assert widget.run() is not None, messages()
    finish()
    expected = expected_labels(planes, plane[:, None], planar=True)[0]
    np.testing.assert_array_equal(viewer.layers[-1].data, expected)
    for channel in (0, 1, 2):
        assert label_shown(viewer, viewer.layers[-1], source, (channel, 5, 6)) == expected[5, 6]


def test_a_channel_axis_of_another_length(viewer, widget, choose, three, channels) -> None:
    viewer.add_image(channels[:2], name="pair")
    choose(three)
    for box in widget.channels.boxes:
        box.value = viewer.layers["pair"]
    assert widget.run() is None
    assert "pair is chosen for every channel, but its axes T, Z, Y, X have none for channels" in messages()[-1]
    type_into(widget.channels.axes, "C, Z, Y, X")
    assert widget.run() is None
    assert "pair has 2 channel(s), the model needs 3: CT, PET, MR" in messages()[-1]


def test_channel_layers_have_no_channel_axis(viewer, widget, choose, three, channels) -> None:
    for name in ("CT", "PET", "MR"):
        viewer.add_image(channels, name=name)
    choose(three)
    assert [box.value.name for box in widget.channels.boxes] == ["CT", "PET", "MR"]
    assert widget.channels.axes.value == "T, Z, Y, X"
    type_into(widget.channels.axes, "C, Z, Y, X")
    assert widget.run() is None
    assert "the channels are layers of their own" in messages()[-1]
