"""Where the first stage of a cascade is looked for, and what is accepted as one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from model_files import CHECKPOINT, edit_checkpoint, edit_json, put
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError

LOW = RandomModel(patch=(8, 8, 8), spacing=(2.0, 2.0, 2.0), called="3d_lowres", folds=("0", "1"))
CASCADE = RandomModel(patch=(8, 8, 8), first_stage=LOW, folds=("0", "1"))
NAME = "nnUNetTrainer__nnUNetPlans__3d_lowres"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return CASCADE.write(tmp_path)


def test_it_lies_beside(folder: Path) -> None:
    model = load_model(folder)
    assert model.cascade
    assert model.first_stage is not None
    assert model.first_stage.folder == folder.with_name(NAME)
    assert model.stages == (model.first_stage, model)
    assert (model.input_channels, model.first_stage.input_channels) == (3, 1)
    assert model.describe()["first_stage"] == "3d_lowres"
    assert not model.first_stage.cascade


def test_chosen_folds_are_those_of_both_stages(folder: Path) -> None:
    assert [stage.folds for stage in load_model(folder).stages] == [("0", "1"), ("0", "1")]
    assert [stage.folds for stage in load_model(folder, folds=[1]).stages] == [("1",), ("1",)]
    assert [stage.folds for stage in load_model(folder / "fold_1").stages] == [("1",), ("1",)]
    assert [stage.folds for stage in load_model(folder, folds="all").stages] == [("0", "1"), ("0", "1")]
    (folder / "fold_1").rename(folder / "fold_all")
    assert [stage.folds for stage in load_model(folder, folds="all").stages] == [("0", "1"), ("all",)]
    (folder / "fold_all").rename(folder / "fold_1")
    shutil.rmtree(folder.with_name(NAME) / "fold_1")
    assert [stage.folds for stage in load_model(folder).stages] == [("0",), ("0", "1")]
    with pytest.raises(ModelError, match=r"3d_lowres has no fold_1/checkpoint_final\.pth; folds with it: 0"):
        load_model(folder, folds=[1])


def test_a_chosen_fold_may_be_the_only_one(folder: Path) -> None:
    shutil.rmtree(folder / "fold_1")
    assert [stage.folds for stage in load_model(folder).stages] == [("0", "1"), ("0",)]
    assert [stage.folds for stage in load_model(folder, folds=[0]).stages] == [("0",), ("0",)]
    assert [stage.folds for stage in load_model(folder / "fold_0").stages] == [("0",), ("0",)]


@pytest.mark.parametrize("name", [".", "..", "fold_0/.."])
def test_it_is_found_from_where_one_stands(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(folder / "fold_0" if name == ".." else folder)
    first = load_model(name).first_stage
    assert first is not None
    assert first.folder == folder.with_name(NAME)


def test_its_weights_must_be_of_the_configuration(folder: Path) -> None:
    for checkpoint in folder.with_name(NAME).glob("fold_*/*.pth"):
        edit_checkpoint(checkpoint, lambda content: put(content, "init_args.configuration", "3d_cascade_fullres"))
    edit_json(folder.with_name(NAME) / "plans.json", {"configurations.3d_cascade_fullres.previous_stage": None})
    with pytest.raises(ModelError, match=r"does not fit the network|its weights are of 3d_cascade_fullres"):
        load_model(folder)


def test_chosen_checkpoints_are_those_of_both_stages(folder: Path) -> None:
    for model in (folder, folder.with_name(NAME)):
        for final in model.glob("fold_*/checkpoint_final.pth"):
            shutil.copy(final, final.with_name("checkpoint_best.pth"))
    for opened in (
        load_model(folder, checkpoint="checkpoint_best.pth"),
        load_model(folder / "fold_0/checkpoint_best.pth"),
    ):
        assert {path.name for stage in opened.stages for path in stage.checkpoints} == {"checkpoint_best.pth"}


def test_it_comes_out_of_an_archive(folder: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path, folder.parent.name)
    model = load_model(archive, "3d_cascade_fullres")
    assert model.first_stage is not None
    assert model.first_stage.configuration_name == "3d_lowres"


def test_one_of_another_trainer_will_do(folder: Path) -> None:
    other = folder.with_name("nnUNetTrainer_5epochs__nnUNetPlans__3d_lowres")
    folder.with_name(NAME).rename(other)
    model = load_model(folder)
    assert model.first_stage is not None
    assert model.first_stage.folder == other
    shutil.copytree(other, folder.with_name("nnUNetTrainer_1epoch__nnUNetPlans__3d_lowres"))
    with pytest.raises(ModelError, match=r"2 models make them: nnUNetTrainer_1epoch__nnUNetPlans__3d_lowres, nnUNetTr"):
        load_model(folder)


def test_without_it_the_model_still_loads(folder: Path) -> None:
    shutil.rmtree(folder.with_name(NAME))
    model = load_model(folder)
    assert model.first_stage is None
    assert model.describe()["first_stage"] == "3d_lowres"


def test_a_cascade_is_no_first_stage(folder: Path) -> None:
    low = folder.with_name(NAME)
    edit_json(low / "plans.json", {"configurations.3d_lowres.previous_stage": "3d_cascade_fullres"})
    weights = folder / CHECKPOINT
    for fold in ("fold_0", "fold_1"):
        shutil.copy(weights, low / fold / weights.name)
        edit_checkpoint(low / fold / weights.name, lambda content: put(content, "init_args.configuration", "3d_lowres"))
    with pytest.raises(ModelError, match="it is a cascade itself"):
        load_model(folder)


def test_it_must_have_the_same_labels(folder: Path) -> None:
    edit_json(folder.with_name(NAME) / "dataset.json", {"channel_names": {"0": "MR"}})
    with pytest.raises(ModelError, match="can't be the first stage of .* it has other labels or channels"):
        load_model(folder)


@pytest.mark.parametrize("name", ["../3d_lowres", "a/b", "*", "", "x" * 200])
def test_names_that_are_no_configuration(folder: Path, name: str) -> None:
    edit_json(folder / "plans.json", {"configurations.3d_cascade_fullres.previous_stage": name})
    with pytest.raises(ModelError, match="previous_stage"):
        load_model(folder)
