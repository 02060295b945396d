"""Where labels go: what is offered, what is shown, and what is made of the typed labels."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_nnunet_cpu.errors import CaseError, SettingsError
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.results.layer_result import LayerResult
from napari_nnunet_cpu.viewer.results.merge import MergeTarget
from napari_nnunet_cpu.viewer.run.preview import Preview
from napari_nnunet_cpu.viewer.widget.result_picker import ResultPicker, parse_values

SHAPE = (4, 6, 5)
NAMES = {0: "background", 1: "liver", 2: "spleen", 3: "kidney, left", 10: "2"}


@pytest.fixture
def desk(qtbot):
    viewer = ViewerModel()
    source = viewer.add_image(np.zeros(SHAPE), name="scan")
    viewer.add_labels(np.full(SHAPE, 9), name="mine")
    return viewer, image_from_layers([source]), ResultPicker(viewer)


def offered(choice: ResultPicker) -> list[str]:
    choice.reset_choices()
    combo = choice.layer.native
    return [combo.itemText(number) for number in range(combo.count())]


def test_layers_that_can_be_edited_are_offered(desk) -> None:
    viewer, image, choice = desk
    assert offered(choice) == ["a new layer", "into mine"]
    preview = Preview(viewer, image, NAMES, np.uint8)
    preview.layer = preview._made()
    viewer.dims.ndisplay = 3
    viewer.add_labels([np.zeros(SHAPE, int), np.zeros((2, 3, 2), int)], multiscale=True)
    viewer.add_labels(np.zeros(SHAPE, int), name="other")
    assert offered(choice) == ["a new layer", "into mine", "into other"]


def test_a_new_layer_asks_for_nothing_else(desk) -> None:
    viewer, image, choice = desk
    choice.show()
    assert (choice.values.visible, choice.overwrite.visible) == (False, False)
    choice.values.value = "nonsense"
    assert choice.target(viewer, image, NAMES) is None
    choice.layer.value = viewer.layers["mine"]
    assert (choice.values.visible, choice.overwrite.visible) == (True, True)
    choice.layer.value = "new"
    assert (choice.values.visible, choice.overwrite.visible) == (False, False)
    choice.close()


@pytest.mark.parametrize(("text", "overwrite", "written"), [("", False, []), ("", True, [1, 2]), ("spleen", True, [2])])
def test_target(desk, text: str, overwrite: bool, written: list[int]) -> None:
    viewer, image, choice = desk
    choice.layer.value = viewer.layers["mine"]
    choice.values.value, choice.overwrite.value = text, overwrite
    labels = np.zeros(SHAPE, np.uint8)
    labels[1], labels[2] = 1, 2
    target = choice.target(viewer, image, NAMES)
    assert isinstance(target, MergeTarget)
    target.merge(LayerResult(labels, NAMES, {"settings": {"box": None}}))
    assert isinstance(target.layer, Labels)
    np.testing.assert_array_equal(target.layer.data, np.where(np.isin(labels, written), labels, 9))


def test_a_chosen_layer_that_is_removed_gives_way_to_a_new_one(desk) -> None:
    viewer, image, choice = desk
    choice.layer.value = viewer.layers["mine"]
    viewer.layers.remove("mine")
    choice.reset_choices()
    choice.show()
    assert choice.target(viewer, image, NAMES) is None
    assert (choice.values.visible, choice.overwrite.visible) == (False, False)
    choice.close()


def test_a_layer_that_does_not_fit_is_told_at_the_start(desk) -> None:
    viewer, image, choice = desk
    choice.layer.value = viewer.layers["mine"]
    viewer.layers["mine"].data = np.zeros((2, 2, 2), int)
    with pytest.raises(CaseError, match="mine has shape"):
        choice.target(viewer, image, NAMES)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", None),
        (" , ", None),
        ("1, spleen", (1, 2)),
        ("Liver,1,", (1,)),
        ("kidney, left", (3,)),
        ("0", (0,)),
        ("2", (2,)),  # a value before a name
        ("10", (10,)),
    ],
)
def test_typed_labels(text: str, values: tuple[int, ...] | None) -> None:
    assert parse_values(text, NAMES) == values


@pytest.mark.parametrize(("text", "part"), [("liver, 7", "7"), ("livr", "livr"), ("-1", "-1"), ("1 2", "1 2")])
def test_typed_labels_that_are_none(text: str, part: str) -> None:
    with pytest.raises(SettingsError, match=f"only labels: {part} is none of the model's; .*1 liver, 2 spleen"):
        parse_values(text, NAMES)
