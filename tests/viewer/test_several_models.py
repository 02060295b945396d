"""Cascades, ensembles and postprocessing in the window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import PATIENCE_MS, messages
from napari.components import ViewerModel
from napari.layers import Labels
from random_model import RandomModel

from napari_nnunet_cpu import Case, Settings, load_model, segment, segment_layer

LOW = RandomModel(spacing=(2.0, 2.0, 2.0), called="3d_lowres", seed=5)
FLAT = RandomModel(patch=(16, 16), spacing=(1.0, 1.0), seed=1)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A Dataset folder with a 2d model, a 3d_lowres one and the cascade after it."""
    FLAT.write(tmp_path)
    return RandomModel(first_stage=LOW, mirror_axes=(0, 1, 2)).write(tmp_path).parent


def of(dataset: Path, configuration: str) -> Path:
    return dataset / f"nnUNetTrainer__nnUNetPlans__{configuration}"


def choose_found(widget, qtbot, *configurations: str) -> None:
    """Choose among the models that were found at the path."""
    folders = [folder for folder in widget.model.found.choices if folder.name.split("__")[-1] in configurations]
    widget.model.found.value = folders
    qtbot.waitUntil(lambda: not widget.model.problem.startswith("reading"), timeout=PATIENCE_MS)


def test_a_cascade_is_one_click_and_its_first_stage_is_kept(
    viewer, widget, choose, finish, qtbot, dataset, image
) -> None:
    layer = viewer.add_image(image, name="scan", scale=(1.5, 1, 1), units="mm")
    choose(of(dataset, "3d_cascade_fullres"))
    assert "after 3d_lowres (found beside it, runs first)" in widget.model.info.value
    assert widget.first_stage.visible
    seen: list[str] = []
    widget.run().progressed.connect(lambda event: seen.append(event.text))
    finish()
    expected = segment(Case(image[None], (1.5, 1, 1)), load_model(of(dataset, "3d_cascade_fullres")), Settings.fast())
    low, labels = viewer.layers["scan 3d_lowres labels"], viewer.layers["scan labels"]
    np.testing.assert_array_equal(labels.data, expected.labels)
    np.testing.assert_array_equal(low.data, expected.first_stage.labels)
    assert (low.visible, labels.visible) == (False, True)
    assert len(np.unique(labels.data)) == len(np.unique(low.data)) == 3
    assert any(text.startswith("3d_lowres: ") for text in seen)
    np.testing.assert_allclose(low.scale, layer.scale)

    low.data[:] = 1  # by hand
    widget.first_stage.value = low
    widget.run()
    finish()
    again = segment(
        Case(image[None], (1.5, 1, 1)), load_model(of(dataset, "3d_cascade_fullres")), Settings.fast(),
        first_stage=np.ones(image.shape, np.uint8),
    )  # fmt: skip
    np.testing.assert_array_equal(viewer.layers[-1].data, again.labels)
    assert not np.array_equal(again.labels, expected.labels)
    assert [layer.name for layer in viewer.layers if isinstance(layer, Labels)] == [
        "scan 3d_lowres labels", "scan labels", "scan labels [1]"
    ]  # fmt: skip
    assert messages() == []


def test_a_cascade_without_its_first_stage_asks_for_labels(viewer, widget, choose, tmp_path, image) -> None:
    folder = RandomModel(first_stage=LOW).write(tmp_path / "cascade")
    alone = tmp_path / "alone" / folder.name
    alone.parent.mkdir()
    folder.rename(alone)
    viewer.add_image(image, scale=(1, 1, 1), units="mm")
    small = viewer.add_labels(np.zeros((3, 3, 3), np.uint8))
    choose(alone)
    assert "after 3d_lowres (not found: choose its labels)" in widget.model.info.value
    assert widget.run() is None
    assert "or choose a Labels layer as first stage" in messages()[-1]
    widget.first_stage.value = small
    assert widget.run() is None
    assert "labels of shape (3, 3, 3) do not lie on" in messages()[-1]


def test_of_several_models_the_user_chooses(viewer, widget, choose, finish, qtbot, dataset, image) -> None:
    viewer.add_image(image, name="scan", scale=(1, 1, 1), units="mm")
    choose(dataset)
    assert widget.model.models == ()
    assert widget.model.found.visible
    assert widget.model.info.value.startswith("several models: choose one")
    assert widget.run() is None
    choose_found(widget, qtbot, "2d")
    assert widget.model.model.configuration_name == "2d"
    assert not widget.first_stage.visible
    choose_found(widget, qtbot, "2d", "3d_lowres")
    assert [model.configuration_name for model in widget.model.models] == ["2d", "3d_lowres"]
    widget.run()
    finish()
    models = [load_model(of(dataset, name)) for name in ("2d", "3d_lowres")]
    expected = segment(Case(image[None], (1, 1, 1)), models, Settings.fast())
    np.testing.assert_array_equal(viewer.layers["scan labels"].data, expected.labels)
    assert len(viewer.layers["scan labels"].metadata["nnunet"]["runs"]) == 2


def test_models_of_two_folders_are_averaged(viewer, widget, choose, finish, qtbot, dataset, tmp_path, image) -> None:
    viewer.add_image(image, name="scan", scale=(1, 1, 1), units="mm")
    choose(of(dataset, "2d"))
    other = RandomModel(seed=7).write(tmp_path / "other")
    widget.model.also.value = other
    qtbot.waitUntil(lambda: len(widget.model.models) == 2, timeout=PATIENCE_MS)
    widget.run()
    finish()
    models = [load_model(folder) for folder in (of(dataset, "2d"), other)]
    expected = segment(Case(image[None], (1, 1, 1)), models, Settings.fast())
    np.testing.assert_array_equal(viewer.layers["scan labels"].data, expected.labels)
    widget.model.also.value = RandomModel(labels={"background": 0, "tumour": 1}).write(tmp_path / "third")
    qtbot.waitUntil(lambda: widget.model.problem != "" and "reading" not in widget.model.problem, timeout=PATIENCE_MS)
    assert "have different labels; they can't be an ensemble" in widget.model.problem


def test_postprocessing_is_one_tick(viewer, widget, choose, finish, tmp_path, image) -> None:
    folder = RandomModel(postprocessing=[[1, 2]]).write(tmp_path)
    viewer.add_image(image, name="scan", scale=(1, 1, 1), units="mm")
    choose(folder)
    widget.run_options.postprocess.value = True
    widget.run()
    finish()
    case, model = Case(image[None], (1, 1, 1)), load_model(folder)
    expected = segment(case, model, Settings.fast(postprocess=True)).labels
    np.testing.assert_array_equal(viewer.layers["scan labels"].data, expected)
    assert not np.array_equal(expected, segment(case, model, Settings.fast()).labels)


def test_scripts_name_several_models(dataset, image) -> None:
    viewer = ViewerModel()
    viewer.add_image(image, name="scan", scale=(1, 1, 1), units="mm")
    folders = [of(dataset, "2d"), of(dataset, "3d_cascade_fullres")]
    labels = segment_layer(viewer, "scan", folders, Settings.draft())
    expected = segment(Case(image[None], (1, 1, 1)), [load_model(folder) for folder in folders], Settings.draft())
    np.testing.assert_array_equal(labels.data, expected.labels)
    assert [layer.name for layer in viewer.layers] == ["scan", "scan 3d_lowres labels", "scan labels"]
