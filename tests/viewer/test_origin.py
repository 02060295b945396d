"""Labels know the image and the model that they were made from, and no action takes them for those of another."""

from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pytest
from conftest import PATIENCE_MS, messages
from napari.components import ViewerModel
from napari.layers import Layer
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Settings, load_model, read_case, save_corrected_layer, segment_layer
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.results.origin import changes_of, origin_of
from napari_nnunet_cpu.viewer.results.uncertainty import uncertainty_layer_of

SHAPE = (12, 14, 13)


@pytest.fixture
def desk(one):
    """A viewer with two images of one shape, and the labels of both."""
    viewer = ViewerModel()
    for seed, name in enumerate(("a", "b")):
        viewer.add_image(smooth_image(SHAPE, seed=seed)[0], name=name)
        segment_layer(viewer, name, one, Settings.draft())
    return viewer


def rename(viewer: ViewerModel, *names: str) -> None:
    """Call layers something else, each other's names among it."""
    for name in names:
        viewer.layers[name].name = f"{name} for now"
    for name, other in zip(names, names[::-1], strict=True):
        viewer.layers[f"{name} for now"].name = other


@pytest.mark.parametrize("renamed", [False, True])
def test_a_pair_that_does_not_belong_together_is_not_saved(desk, one, tmp_path, renamed: bool) -> None:
    image, other, labels = desk.layers["a"], desk.layers["b"], desk.layers["a labels"]
    if renamed:
        rename(desk, "a", "b")
        rename(desk, "a labels", "b labels")
    message = (
        f"{labels.name} was made from {image.name}, not from {other.name}; save it with the image it was made from"
    )
    with pytest.raises(CaseError, match=f"^{message}$"):
        save_corrected_layer(desk, labels, other, one, tmp_path)
    assert not list(tmp_path.iterdir())
    (name,) = save_corrected_layer(desk, labels, image, one, tmp_path)
    np.testing.assert_array_equal(read_case(tmp_path / "imagesTr" / f"{name}_0000.nii.gz").channels[0], image.data)


def copies(labels, kind: str) -> Layer:
    """A layer as napari, or a file that keeps metadata, makes it of another."""
    data, state, kind_of = labels.as_layer_data_tuple()
    if kind == "file":
        state = state | {"metadata": json.loads(json.dumps(state["metadata"]))}
    return Layer.create(data.copy(), state | {"name": "copy"}, kind_of)


@pytest.mark.parametrize("kind", ["copy", "file"])
@pytest.mark.parametrize("original", ["there", "gone"])
def test_a_copy_belongs_to_the_same_image(desk, one, tmp_path, kind: str, original: str) -> None:
    copy = desk.add_layer(copies(desk.layers["a labels"], kind))
    if original == "gone":
        desk.layers.remove("a labels")
        gc.collect()
    with pytest.raises(CaseError, match="^copy was made from a, not from b; "):
        save_corrected_layer(desk, copy, "b", one, tmp_path)
    save_corrected_layer(desk, copy, "a", one, tmp_path)
    with pytest.raises(CaseError, match="^copy was made from a, not from b; use a new layer$"):
        segment_layer(desk, "b", one, Settings.draft(), into=copy)


def test_labels_of_another_image_are_not_merged_into(desk, one) -> None:
    before = desk.layers["a labels"].data.copy()
    with pytest.raises(CaseError, match="^a labels was made from a, not from b; use a new layer$"):
        segment_layer(desk, "b", one, Settings.draft(), into="a labels")
    np.testing.assert_array_equal(desk.layers["a labels"].data, before)
    segment_layer(desk, "a", one, Settings.draft(), into="a labels")


def test_a_layer_of_the_users_takes_the_labels_of_one_image(desk, one, tmp_path) -> None:
    mine = desk.add_labels(np.zeros(SHAPE, np.uint8), name="mine")
    segment_layer(desk, "a", one, Settings.draft(), into=mine)
    assert mine.data.any()
    assert origin_of(mine).image.arrays[0] is desk.layers["a"].data
    assert mine.metadata["nnunet"]["image"]["name"] == "a"
    with pytest.raises(CaseError, match="^mine was made from a, not from b; use a new layer$"):
        segment_layer(desk, "b", one, Settings.draft(), into=mine)
    with pytest.raises(CaseError, match="^mine was made from a, not from b; save"):
        save_corrected_layer(desk, mine, "b", one, tmp_path)


def test_labels_painted_by_hand_belong_to_whatever_is_said(desk, one, tmp_path) -> None:
    desk.add_labels(np.ones(SHAPE, np.uint8), name="mine")
    for name in ("a", "b"):
        assert save_corrected_layer(desk, "mine", name, one, tmp_path) == (name,)


def test_an_image_that_was_opened_again_is_the_same(desk, one, tmp_path) -> None:
    array = desk.layers["a"].data.copy()
    desk.layers.remove("a")
    desk.add_image(array, name="a anew")
    segment_layer(desk, "a anew", one, Settings.draft(), into="a labels")
    assert save_corrected_layer(desk, "a labels", "a anew", one, tmp_path) == ("a_anew",)
    array[3, 4, 5] += 1
    with pytest.raises(CaseError, match="^a labels was made from a, not from a anew; use a new layer$"):
        segment_layer(desk, "a anew", one, Settings.draft(), into="a labels")


def test_channels_of_one_image_may_be_shared(desk, one, tmp_path) -> None:
    two = RandomModel(patch=(8, 8, 8), channels=("CT", "PET")).write(tmp_path)
    segment_layer(desk, ["a", "b"], two, Settings.draft(), into="b labels")


@pytest.mark.parametrize("labels", [{"background": 0, "liver": 1, "spleen": 2}, {"background": 0, "liver": 1}])
def test_labels_of_a_model_are_not_those_of_another(desk, one, tmp_path, labels: dict) -> None:
    other = RandomModel(patch=(8, 8, 8), labels=labels).write(tmp_path / "other")
    with pytest.raises(CaseError) as caught:
        save_corrected_layer(desk, "a labels", "a", other, tmp_path / "session")
    assert "whose labels are 0 background, 1 liver, 2 kidney, not with Dataset999_Random, whose labels" in str(
        caught.value
    )
    same = RandomModel(patch=(8, 8, 8), seed=9).write(tmp_path / "same")
    assert save_corrected_layer(desk, "a labels", "a", same, tmp_path / "session") == ("a",)


def test_uncertainty_is_found_from_its_labels(desk, one) -> None:
    uncertainties = {}
    for name in ("a", "b"):
        labels = segment_layer(desk, name, one, Settings.draft(uncertainty="margin"))
        uncertainties[labels] = desk.layers[-1]
    for labels, uncertainty in uncertainties.items():
        assert uncertainty_layer_of(desk, labels) is uncertainty
        assert uncertainty_layer_of(desk, uncertainty) is uncertainty
    for name in ("a", "a labels"):
        assert uncertainty_layer_of(desk, desk.layers[name]) is None
    assert uncertainty_layer_of(desk, None) is None


def test_the_image_is_kept_for_its_labels_and_no_longer(one, tmp_path) -> None:
    viewer = ViewerModel()
    array = smooth_image(SHAPE, seed=3)[0]
    viewer.add_image(array, name="a", scale=(3, 1, 1))
    labels = segment_layer(viewer, "a", one, Settings.draft())
    held = weakref.ref(viewer.layers["a"])
    viewer.layers.remove("a")
    gc.collect()
    assert held() is None
    origin = origin_of(labels)
    assert origin.image_now() is origin.image
    assert origin.image.arrays[0] is array
    assert origin.image.spacing_mm == (3, 1, 1)
    known = weakref.ref(origin)
    viewer.layers.selection.clear()  # napari keeps the layer that was the current one
    viewer.layers.remove(labels)
    del labels, origin
    gc.collect()
    assert known() is None


CHANGES = {
    "got other data": lambda layer: setattr(layer, "data", layer.data + 1),
    "was rescaled or moved": lambda layer: setattr(layer, "scale", (2, 1, 1)),
    "was rescaled or moved ": lambda layer: setattr(layer, "translate", (2, 1, 1)),
    "was rescaled or moved  ": lambda layer: setattr(layer, "rotate", 20.0),
    "was rescaled or moved   ": lambda layer: setattr(layer, "affine", np.diag([2.0, 1, 1, 1])),
    "was rescaled or moved    ": lambda layer: setattr(layer, "units", ("mm", "mm", "mm")),
    "": lambda layer: setattr(layer, "name", "another"),
    " ": lambda layer: setattr(layer, "data", layer.data.copy()),
}


@pytest.mark.parametrize(("said", "change"), CHANGES.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_became_of_an_image_is_told(said: str, change) -> None:
    viewer = ViewerModel()
    layers = [viewer.add_image(np.zeros(SHAPE), name=name) for name in ("a", "b")]
    image = image_from_layers(layers)
    assert changes_of(image) is None
    change(layers[1])
    assert changes_of(image) == (said.strip() or None)


def test_the_image_is_taken_as_it_lies_now(one) -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(smooth_image(SHAPE, seed=3)[0].transpose(2, 1, 0), name="a")
    labels = segment_layer(viewer, "a", one, Settings.draft(), axes="X, Y, Z")
    layer.scale, layer.name = (1, 2, 3), "b"
    now = origin_of(labels).image_now()
    assert now.spacing_mm == (3, 2, 1)
    assert (now.name, str(now.axes)) == ("b", "X, Y, Z")
    layer.data = layer.data + 1
    assert origin_of(labels).image_now() is origin_of(labels).image


def test_the_labels_of_one_image_are_saved_while_another_is_chosen(
    viewer, widget, choose, finish, gated, one, tmp_path, qtbot
) -> None:
    """Run one, choose the next and run it in the background, select the first one's labels and save them."""
    gated.gate.set()
    images = {name: smooth_image(SHAPE, seed=seed)[0] + 1000 for seed, name in enumerate(("first", "second"))}
    for name, array in images.items():
        viewer.add_image(array, name=name)
    choose(one)
    widget.channels.boxes[0].value = viewer.layers["first"]
    widget.run()
    finish()
    widget.channels.boxes[0].value = viewer.layers["second"]
    behind = widget.run_in_background()
    qtbot.waitUntil(lambda: not behind.running, timeout=PATIENCE_MS)
    (tmp_path / "session").mkdir()
    widget.session.folder.value = tmp_path / "session"
    viewer.layers["first labels"].name = "mine"
    for labels, name in (("mine", "first"), ("second labels", "second")):
        viewer.layers.selection.active = viewer.layers[labels]
        widget.session.save()
        said = f"saved {labels} as {name} in {tmp_path / 'session'}"
        qtbot.waitUntil(lambda said=said: widget.session.note.value == said, timeout=PATIENCE_MS)
        saved = read_case(tmp_path / "session" / "imagesTr" / f"{name}_0000.nii.gz")
        np.testing.assert_array_equal(saved.channels[0], images[name])
    assert messages() == []


def test_a_preview_is_not_saved(viewer, widget, choose, finish, gated, one, tmp_path, qtbot) -> None:
    viewer.add_image(smooth_image(SHAPE, seed=1)[0] + 1000, name="scan")
    choose(one)
    widget.run()
    widget.session.folder.value = tmp_path
    viewer.layers.selection.active = viewer.layers["scan (preview)"]
    widget.session.save()
    said = "scan (preview) is still being computed; keep its finished labels, or wait for the end"
    qtbot.waitUntil(lambda: widget.session.note.value == said, timeout=PATIENCE_MS)
    assert messages() == [said]
    gated.gate.set()
    finish()


def test_a_first_stage_is_that_of_the_image(viewer, widget, cost, choose, finish, gated, tmp_path, image) -> None:
    low = RandomModel(spacing=(2.0, 2.0, 2.0), called="3d_lowres", seed=5)
    folder = RandomModel(first_stage=low).write(tmp_path)
    for name, more in (("a", 1000), ("b", 2000)):
        viewer.add_image(image + more, name=name)
    gated.gate.set()
    choose(folder)
    widget.channels.boxes[0].value = viewer.layers["a"]
    widget.run()
    finish()
    widget.first_stage.value = viewer.layers["a 3d_lowres labels"]
    widget.channels.boxes[0].value = viewer.layers["b"]
    said = "a 3d_lowres labels was made from a, not from b; choose labels of this image, or run the first stage"
    assert cost() == said
    assert widget.run() is None
    assert messages() == [said]
    widget.channels.boxes[0].value = viewer.layers["a"]
    gated.gate.clear()
    behind = widget.run_in_background()
    widget.first_stage.value = viewer.layers["a (preview)"]
    assert cost() == "a (preview) is still being computed; keep its finished labels, or wait for the end"
    gated.gate.set()
    behind.wait()
    widget.first_stage.value = viewer.layers["a 3d_lowres labels"]
    widget.channels.boxes[0].value = viewer.layers["a"]
    assert "up to" in cost()
    assert load_model(folder).first_stage is not None
