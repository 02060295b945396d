"""What can be chosen, what is guessed, and what is said when it does not fit."""

from __future__ import annotations

import shutil
from html import escape

import numpy as np
import pytest
from conftest import PATIENCE_MS, messages, type_into
from random_model import RandomModel

from napari_nnunet_cpu.engines import available_devices
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.settings import Settings
from napari_nnunet_cpu.viewer.image.layers import image_from_layers


def _run_says(widget, *words: str) -> None:
    assert widget.run() is None
    assert len(messages()) == 1
    assert "\n" not in messages()[0]
    for word in words:
        assert word in messages()[0]
    assert widget.status.value == messages()[0]
    assert widget.run_button.text == "Run"


def test_no_model(widget) -> None:
    _run_says(widget, "Choose a model folder")


def test_not_a_model(widget, choose, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("")
    choose(tmp_path)
    _run_says(widget, "plans.json and dataset.json missing", "notes.txt")


def test_no_image(widget, choose, model_folder) -> None:
    choose(model_folder)
    _run_says(widget, "no image layer is chosen")


def test_missing_fold(widget, choose, model_folder) -> None:
    widget.model.folds.value = "3"
    choose(model_folder)
    _run_says(widget, "fold_3", "folds with it: 0")


def test_the_model_is_described(widget, choose, model_folder) -> None:
    choose(model_folder)
    for word in ("Dataset999_Random", "3d_fullres", "folds 0", "liver, kidney", "CT", "16 × 16 × 16", "1 × 1 × 1 mm"):
        assert word in widget.model.info.value
    assert "Notice" not in widget.model.info.value


def test_a_model_of_an_unknown_trainer_has_a_notice(widget, choose, tmp_path) -> None:
    choose(RandomModel(trainer="MyTrainer").write(tmp_path))
    assert widget.model.model is not None
    for word in ("Notice:", "trained by MyTrainer, which is not known here", escape("plans' network")):
        assert word in widget.model.info.value


def test_fold_folder_and_zip(widget, choose, model_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "cache"))
    choose(model_folder / "fold_0")
    assert widget.model.model.folds == ("0",)
    archive = shutil.make_archive(str(tmp_path / "export"), "zip", model_folder.parent.parent, "Dataset999_Random")
    choose(archive)
    assert widget.model.model.name == "Dataset999_Random"


def test_channels_find_their_layers(viewer, widget, choose, tmp_path, image) -> None:
    for name in ("other", "patient T2w", "patient FLAIR"):
        viewer.add_image(image, name=name)
    choose(RandomModel(channels=("FLAIR", "T2w")).write(tmp_path))
    assert [box.label for box in widget.channels.boxes] == ["FLAIR", "T2w"]
    assert [box.value.name for box in widget.channels.boxes] == ["patient FLAIR", "patient T2w"]


@pytest.mark.parametrize(
    ("channels", "layers", "chosen"),
    [
        (("T1", "T1ce"), ("sub_t1", "sub_t1ce"), ["sub_t1", "sub_t1ce"]),
        (("T1ce", "T1"), ("sub_t1ce", "sub_t1"), ["sub_t1ce", "sub_t1"]),
        (("PET", "CT"), ("patient_ct", "bone reconstruction", "pet"), ["pet", "patient_ct"]),
    ],
    ids=["prefix", "prefix-reversed", "inside-a-word"],
)
def test_a_channel_name_is_a_word(viewer, widget, choose, tmp_path, image, channels, layers, chosen) -> None:
    for name in layers:
        viewer.add_image(image, name=name)
    choose(RandomModel(channels=channels).write(tmp_path))
    assert [box.value.name for box in widget.channels.boxes] == chosen


def test_the_spacing_follows_the_layer(viewer, widget, cost, choose, model_folder, image) -> None:
    layer = viewer.add_image(image + 1000)
    choose(model_folder)
    layer.scale = (3, 1, 1)
    assert widget.channels.spacing.value == "3, 1, 1"
    assert "fast: 63 tiles" in cost()  # 60 x 27 x 25 voxels: 7 x 3 x 3 starts
    layer.units = ("um", "um", "um")
    assert widget.channels.spacing.value == "0.003, 0.001, 0.001"


def test_an_emptied_spacing_goes_back_to_the_layer(viewer, widget, image) -> None:
    viewer.add_image(image, scale=(2, 1, 1))
    for text in ("5, 5, 5", ""):
        type_into(widget.channels.spacing, text)
    assert widget.channels.spacing.value == "2, 1, 1"
    assert widget.channels.stated_spacing() is None


def test_label_names_are_text(widget, choose, tmp_path) -> None:
    choose(RandomModel(labels={"background": 0, "<b>bold": 1}).write(tmp_path))
    assert "&lt;b&gt;bold" in widget.model.info.value


def test_the_selected_layer_is_taken(viewer, widget, choose, model_folder, image) -> None:
    first = viewer.add_image(image, name="first")
    viewer.add_image(image, name="second")
    viewer.layers.selection.active = first
    choose(model_folder)
    assert widget.channels.boxes[0].value is first


def test_one_layer_for_two_channels_is_refused(viewer, widget, choose, tmp_path, image) -> None:
    viewer.add_image(image, name="only")
    choose(RandomModel(channels=("CT", "PET")).write(tmp_path))
    _run_says(widget, "only", "channel")


def test_channels_of_different_shape(viewer, widget, choose, tmp_path, image) -> None:
    viewer.add_image(image, name="CT")
    viewer.add_image(image[:-1], name="PET")
    choose(RandomModel(channels=("CT", "PET")).write(tmp_path))
    _run_says(widget, "CT", "PET", "(20, 27, 25)", "(19, 27, 25)")


def test_channels_at_different_places(viewer, widget, choose, tmp_path, image) -> None:
    viewer.add_image(image, name="CT")
    viewer.add_image(image, name="PET", translate=(1, 0, 0))
    choose(RandomModel(channels=("CT", "PET")).write(tmp_path))
    _run_says(widget, "CT", "PET", "different places")


def test_channels_in_different_units(viewer, widget, choose, tmp_path, image) -> None:
    viewer.add_image(image, name="CT", units="mm")
    viewer.add_image(image, name="PET", units="um")
    choose(RandomModel(channels=("CT", "PET")).write(tmp_path))
    _run_says(widget, "CT", "PET", "units")


METADATA = {
    "text": {"affine": "abc"},
    "dict": {"affine": {}},
    "ragged": {"affine": [[1], [2, 3]]},
    "singular": {"affine": np.zeros((4, 4)), "header": "none"},
}


def test_metadata_of_others_is_left_alone(viewer, widget, choose, finish, gated, model_folder, image, subtests) -> None:
    choose(model_folder)
    gated.gate.set()
    for name, metadata in METADATA.items():
        with subtests.test(name):
            source = viewer.add_image(image, metadata=metadata)
            widget.channels.boxes[0].value = source
            assert widget.run() is not None, messages()
            finish()
            labels = viewer.layers[-1]
            assert labels is not source, messages()
            assert labels.data.shape == image.shape
        viewer.layers.clear()


def test_planar_image_for_a_3d_model(viewer, widget, choose, model_folder, image) -> None:
    viewer.add_image(image[0])
    choose(model_folder)
    _run_says(widget, "2D image", "3d_fullres")


def test_more_axes_than_an_image_has(viewer, widget, choose, model_folder) -> None:
    viewer.add_image(np.zeros((2, 2, 2, 2, 9, 9)), name="everything")
    choose(model_folder)
    _run_says(widget, "everything has 6 axes (2, 2, 2, 2, 9, 9)", "a part of it")


def test_rgb_for_one_channel(viewer, widget, choose, model_folder) -> None:
    viewer.add_image(np.zeros((20, 20, 3), np.uint8), rgb=True, name="photo")
    choose(model_folder)
    _run_says(widget, "photo", "3 channel(s)", "1: CT")


def test_rgb_for_three_channels(viewer, widget, choose, finish, tmp_path) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (40, 36, 3), dtype=np.uint8)
    viewer.add_image(photo, rgb=True)
    choose(RandomModel(patch=(16, 16), spacing=(1, 1), channels=("R", "G", "B")).write(tmp_path))
    assert widget.run() is not None, messages()
    finish()
    assert viewer.layers[-1].data.shape == (40, 36)
    assert len(np.unique(viewer.layers[-1].data)) == 3


def test_multiscale_uses_the_finest_level(viewer, widget, choose, finish, model_folder, image) -> None:
    viewer.add_image([image, image[::2, ::2, ::2]], multiscale=True)
    choose(model_folder)
    assert widget.run() is not None, messages()
    finish()
    assert viewer.layers[-1].data.shape == image.shape


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=["nan", "inf"])
def test_not_finite_image(viewer, widget, choose, finish, model_folder, image, bad) -> None:
    image[3, 4, 5] = bad
    viewer.add_image(image, contrast_limits=(0, 1))
    choose(model_folder)
    widget.run()
    finish()
    assert len(messages()) == 1
    assert "1 voxels that are NaN, infinite or beyond" in messages()[0]
    assert len(viewer.layers) == 1


def test_unknown_spacing_is_said_and_can_be_typed(viewer, widget, choose, finish, model_folder, image) -> None:
    viewer.add_image(image)
    choose(model_folder)
    assert "unknown" in widget.channels.note.value
    type_into(widget.channels.spacing, "3, 1, 1")
    assert widget.channels.note.value == "axes assumed\nspacing as typed"
    viewer.add_image(image, name="another")
    assert widget.channels.spacing.value == "3, 1, 1"
    assert widget.run() is not None, messages()
    finish()
    assert viewer.layers[-1].metadata["nnunet"]["image"]["spacing_mm"] == [3, 1, 1]
    assert viewer.layers[-1].metadata["nnunet"]["image"]["spacing_known"]
    widget.channels.boxes[0].value = viewer.layers["another"]
    assert "unknown" in widget.channels.note.value


def test_devices_are_those_of_the_machine(viewer, widget, qtbot) -> None:
    names = tuple(device.name for device in available_devices())
    qtbot.waitUntil(lambda: tuple(widget.run_options.device.choices) == names, timeout=PATIENCE_MS)
    widget.run_options._set_devices([("CPU", "cpu"), ("a GPU", "cuda:0")])
    widget.run_options.device.value = "cuda:0"
    viewer.add_image(np.zeros((4, 4)))
    assert widget.run_options.settings().device == "cuda:0"


def test_every_option_reaches_the_settings(widget) -> None:
    options = widget.run_options
    assert options.settings().as_dict() | {"threads": None} == Settings.fast(device="cpu").as_dict()
    options.preset.value = "exact"
    options.step.value = 0.8
    options.mirror.value = False
    options.threads.value = 1
    expected = Settings.exact(device="cpu", step=0.8, mirror=False, threads=1)
    assert options.settings() == expected


def test_costs_of_the_presets_are_shown(viewer, widget, cost, choose, model_folder, image) -> None:
    viewer.add_image(image + 1000)
    choose(model_folder)
    # 20 x 27 x 25 voxels in 16-voxel patches 8 apart: 2 x 3 x 3 starts
    assert "exact: 18 tiles, 144 passes" in cost()
    assert "fast: 18 tiles, 18 passes" in cost()


@pytest.mark.parametrize(("voxels", "noted"), [(1e-5, False), (0.05, True)])
def test_channels_that_lie_almost_at_one_place_are_taken_with_a_note(
    viewer, channels, voxels: float, noted: bool
) -> None:
    first = viewer.add_image(channels[0], name="t1", scale=(2, 1, 1))
    second = viewer.add_image(channels[0], name="t2", scale=(2, 1, 1), translate=(2 * voxels, 0, 0))
    notes = image_from_layers([first, second]).case().notes
    assert notes == (("t2 lies up to 0.05 voxels away from t1, whose position is used",) if noted else ())
    second.scale = (2, 1, 1.05)
    with pytest.raises(CaseError, match=r"different places: t2 is up to [\d.]+ voxels away from t1"):
        image_from_layers([first, second])
