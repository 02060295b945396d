import shutil

import pytest
import torch
from model_files import CHECKPOINT, edit_checkpoint, edit_json, put, zip_model
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError, SettingsError


@pytest.fixture
def with_folds(folder):
    """The folder with folds 0, 2, 10 and all."""
    for fold in ("2", "10", "all"):
        shutil.copytree(folder / "fold_0", folder / f"fold_{fold}")
    return folder


@pytest.fixture
def two_models(folder):
    """A Dataset folder with 2d and 3d_fullres."""
    RandomModel(patch=(16, 16), spacing=(1.0, 1.0)).write(folder.parent.parent / "other")
    shutil.move(next((folder.parent.parent / "other").glob("*/*__2d")), folder.parent)
    return folder.parent


def test_what_a_model_says_of_itself(folder):
    model = load_model(folder)
    assert model.describe() == {
        "name": "Dataset999_Random",
        "configuration": "3d_fullres",
        "first_stage": None,
        "trainer": "nnUNetTrainer",
        "notice": None,
        "plans": "nnUNetPlans",
        "network": "PlainConvUNet",
        "folds": ["0"],
        "checkpoint": "checkpoint_final.pth",
        "channels": ["CT"],
        "labels": {"0": "background", "1": "liver", "2": "kidney"},
        "regions": False,
        "spacing_mm": [1.0, 1.0, 1.0],
        "patch": [16, 16, 16],
        "mirror_axes": [],
        "normalization": ["ZScoreNormalization"],
        "reader": "SimpleITKIO",
        "folder": str(folder),
    }


@pytest.mark.parametrize(
    "named",
    [
        lambda folder: folder,
        str,
        lambda folder: folder / "fold_0",
        lambda folder: folder / CHECKPOINT,
        lambda folder: folder.parent,
        lambda folder: folder.parent.parent,
        lambda folder: zip_model(folder, folder.parent.parent / "export.zip"),
        lambda folder: zip_model(folder, folder.parent.parent / "EXPORT.ZIP"),
    ],
    ids=["folder", "text", "fold", "checkpoint", "dataset", "results", "zip", "ZIP"],
)
def test_every_name_of_a_model_finds_its_weights(folder, named):
    model = load_model(named(folder))
    assert (model.folds, model.configuration_name) == (("0",), "3d_fullres")
    weights = torch.load(folder / CHECKPOINT, weights_only=False)["network_weights"]
    found = model.network(0).state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_a_zip_is_unpacked_once_into_the_cache(folder, cache):
    path = zip_model(folder, folder.parent.parent / "export.zip")
    model = load_model(path)
    assert model.folder.is_relative_to(cache / "models")
    (model.folder / "seen").touch()
    assert (load_model(path).folder / "seen").exists()
    assert len(list((cache / "models").iterdir())) == 1


def test_all_numbered_folds_are_used_in_order(with_folds):
    model = load_model(with_folds)
    assert model.folds == ("0", "2", "10")
    assert model.checkpoints == tuple(with_folds / f"fold_{n}" / "checkpoint_final.pth" for n in (0, 2, 10))


@pytest.mark.parametrize(
    ("folds", "expected"),
    [
        ((2,), ("2",)), ((10, 0), ("10", "0")), ("10, 0", ("10", "0")), ((0, "all"), ("0", "all")),
        ("auto", ("0", "2", "10")), ("all", ("all",)), (["all"], ("all",)),
    ],
    ids=str,
)  # fmt: skip
def test_folds_may_be_chosen(with_folds, folds, expected):
    assert load_model(with_folds, folds=folds).folds == expected


def test_fold_all_is_used_where_it_is_the_only_one(folder):
    (folder / "fold_0").rename(folder / "fold_all")
    assert load_model(folder).folds == load_model(folder, folds="all").folds == ("all",)


def test_all_means_the_numbered_folds_where_there_is_no_fold_all(with_folds):
    shutil.rmtree(with_folds / "fold_all")
    assert load_model(with_folds, folds="all").folds == ("0", "2", "10")
    with pytest.raises(ModelError, match=r"has no fold_all/checkpoint_final\.pth; folds with it: 0, 2, 10$"):
        load_model(with_folds, folds=(0, "all"))


def test_folds_that_are_no_folds(folder):
    with pytest.raises(SettingsError, match="folds are 'every'; write auto, all, or numbers with commas, as 0,1,2"):
        load_model(folder, folds="every")


def test_each_fold_has_its_own_weights(tmp_path):
    model = load_model(RandomModel(folds=("0", "1")).write(tmp_path))
    first, second = (model.network(i).state_dict()["decoder.seg_layers.1.weight"] for i in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": [1]}, r"has no fold_1/checkpoint_final\.pth; folds with it: 0, 2, 10, all$"),
        ({"folds": [0, "../x"]}, r"has no fold_\.\./x/checkpoint_final\.pth; folds with it: 0"),
        ({"folds": []}, r"has no checkpoint_final\.pth in"),
        (
            {"checkpoint": "checkpoint_best.pth"},
            r"has no checkpoint_best\.pth in fold_0, fold_10, fold_2, fold_all; other checkpoints there: \w+\.pth$",
        ),
        ({"checkpoint": "/checkpoint_final.pth"}, r"has no /checkpoint_final\.pth in fold_0"),
        ({"configuration": "2d"}, "has no configuration '2d'; found 3d_fullres$"),
    ],
    ids=["fold", "path-as-fold", "no-fold", "checkpoint", "absolute-checkpoint", "configuration"],
)
def test_what_is_missing_is_said_with_what_there_is(with_folds, options, message):
    with pytest.raises(ModelError, match=message):
        load_model(with_folds, **options)


def test_only_checkpoint_best_is_named_and_can_be_chosen(folder):
    (folder / CHECKPOINT).rename(folder / "fold_0" / "checkpoint_best.pth")
    with pytest.raises(ModelError, match=r"no checkpoint_final\.pth in fold_0; other checkpoints there: checkpoint_b"):
        load_model(folder)
    assert load_model(folder, checkpoint="checkpoint_best.pth").checkpoints[0].name == "checkpoint_best.pth"
    assert load_model(folder / "fold_0" / "checkpoint_best.pth").folds == ("0",)


def test_two_models_need_a_configuration(two_models):
    with pytest.raises(ModelError, match=r"holds 2 models; choose one: nnUNetTrainer\S*__2d, nnUNetTrainer\S*__3d_"):
        load_model(two_models)
    assert load_model(two_models, configuration="2d").configuration.patch_size == (16, 16)
    assert load_model(two_models, configuration="3d_fullres").configuration.patch_size == (16, 16, 16)
    with pytest.raises(ModelError, match="holds 2 models; choose one"):
        load_model(two_models, configuration="3d_lowres")


@pytest.mark.parametrize("path", ["missing", "missing.zip", "fold_0/missing.pth"])
def test_what_does_not_exist(tmp_path, path):
    with pytest.raises(ModelError, match=rf"{path} does not exist; choose a model folder, a fold folder or an"):
        load_model(tmp_path / path)


def test_a_name_the_system_refuses(tmp_path):
    with pytest.raises(ModelError, match="can't be read: File name too long"):
        load_model(tmp_path / ("a" * 300))


def test_a_user_who_does_not_exist():
    with pytest.raises(ModelError, match="~nobody-of-this-name/model does not exist"):
        load_model("~nobody-of-this-name/model")


def test_folds_of_other_names_come_last(folder):
    for fold in ("\u00b2", "b", "03"):
        shutil.copytree(folder / "fold_0", folder / f"fold_{fold}")
    assert load_model(folder).folds == ("0", "03", "b", "\u00b2")


@pytest.mark.parametrize("path", ["plans.json", "dataset.json"])
def test_a_document_alone_is_no_model(folder, path):
    with pytest.raises(ModelError, match=f"{path} is not a model; choose a model folder, a fold folder"):
        load_model(folder / path)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["plans.pkl"], "."),
        (["plans.pkl", "fold_0/model_final_checkpoint.model", "fold_0/model_final_checkpoint.model.pkl"], "."),
        (["fold_0/model_final_checkpoint.model"], "."),
        (["fold_0/model_final_checkpoint.model"], "fold_0"),
        (["fold_0/model_final_checkpoint.model"], "fold_0/model_final_checkpoint.model"),
        (["plans.pkl"], "plans.pkl"),
    ],
    ids=["plans", "whole", "weights", "fold", "weights-file", "plans-file"],
)
def test_a_model_of_version_1_is_recognized(tmp_path, files, named):
    for name in files:
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x80\x02.")
    with pytest.raises(ModelError, match=r"is a model of nnU-Net v1; only nnU-Net v2 models can be used$"):
        load_model(tmp_path / "model" / named)


def test_an_empty_folder(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match=r"plans\.json and dataset\.json missing, found nothing; choose trainer__"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("gone", "kept"), [("plans.json", "dataset.json, fold_0"), ("dataset.json", "fold_0, plans.json")]
)
@pytest.mark.parametrize("named", [lambda f: f, lambda f: f / CHECKPOINT], ids=["folder", "checkpoint"])
def test_a_missing_document_is_named(folder, gone, kept, named):
    (folder / gone).unlink()
    with pytest.raises(ModelError, match=f"not an nnU-Net v2 model: {gone} missing, found {kept};"):
        load_model(named(folder))


def test_a_model_without_folds(folder):
    shutil.rmtree(folder / "fold_0")
    with pytest.raises(ModelError, match=r"has no checkpoint_final\.pth in any fold_\* folder \(there is none\)"):
        load_model(folder)


def test_the_checkpoint_knows_the_configuration_better_than_the_folder(folder):
    renamed = folder.rename(folder.with_name("my_favourite"))
    assert load_model(renamed).configuration_name == "3d_fullres"


def test_the_hash_is_of_all_folds_in_order(with_folds):
    one, two = load_model(with_folds, folds=[0]), load_model(with_folds, folds=[0, 2])
    assert len(one.weights_sha256) == 64
    assert one.weights_sha256 != two.weights_sha256
    assert one.weights_sha256 == load_model(with_folds, folds=["all"]).weights_sha256  # a copy


def test_a_home_folder_may_be_written_short(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_model(f"~/{folder.name}").folder == folder


def test_names_come_from_the_documents(folder):
    edit_json(folder / "plans.json", {"dataset_name": "Dataset004_Hippocampus", "plans_name": "myPlans"})
    model = load_model(folder)
    assert (model.name, model.plans_name) == ("Dataset004_Hippocampus", "myPlans")


@pytest.fixture
def flat(folder):
    """The same model as model hubs have it: no folds, and the plans under their own name."""
    (folder / "plans.json").rename(folder / "nnUNetPlans.json")
    (folder / CHECKPOINT).rename(folder / "checkpoint_final.pth")
    (folder / "fold_0").rmdir()
    (folder / "dataset_fingerprint.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    "named", [lambda f: f, lambda f: f.parent, lambda f: f / "checkpoint_final.pth"], ids=["folder", "dataset", "file"]
)
def test_a_flat_folder_is_a_model(flat, original, named):
    model, expected = load_model(named(flat)), load_model(original)
    assert (model.folder, model.checkpoints) == (flat, (flat / "checkpoint_final.pth",))
    assert (model.folds, model.configuration, model.labels) == (("0",), expected.configuration, expected.labels)
    weights = expected.network(0).state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.network(0).state_dict().items())
    assert load_model(named(flat)) == model  # its checkpoint is not read again


@pytest.mark.parametrize(("stored", "said"), [(3, "3"), ("all", "all"), (None, "unknown"), ("../x", "unknown")])
def test_its_checkpoint_knows_its_fold(flat, stored, said):
    edit_checkpoint(flat / "checkpoint_final.pth", lambda content: put(content, "init_args.fold", stored))
    assert load_model(flat).folds == (said,)


def test_its_folds_are_not_to_be_chosen(flat):
    assert load_model(flat, folds="all").folds == ("0",)
    with pytest.raises(ModelError, match=r"has no folds, but checkpoint_final\.pth alone; leave the folds 1 away"):
        load_model(flat, folds=[1])


def test_its_checkpoint_may_have_any_name(flat):
    other = (flat / "checkpoint_final.pth").rename(flat / "weights.pth")
    assert load_model(flat).checkpoints == (other,)
    shutil.copy(other, flat / "checkpoint_best.pth")
    with pytest.raises(ModelError, match=r"other checkpoints there: checkpoint_best\.pth, weights\.pth"):
        load_model(flat)
    assert load_model(flat, checkpoint="checkpoint_best.pth").checkpoints == (flat / "checkpoint_best.pth",)


def test_the_plans_may_have_a_name_of_their_own_beside_folds(folder):
    before = load_model(folder).configuration
    (folder / "plans.json").rename(folder / "nnUNetResEncUNetLPlans.json")
    assert load_model(folder).configuration == before
    assert load_model(folder.parent).configuration == before
    (folder / "nnUNetPlans.json").write_text("{}")
    with pytest.raises(
        ModelError, match=r"plans\.json missing, found dataset\.json, fold_0, nnUNetPlans\.json, nnUNetRe"
    ):
        load_model(folder)


def test_a_folder_of_prepared_images_is_no_model(folder):
    """nnU-Net's Dataset folder in nnUNet_preprocessed, where results may lie, too."""
    shutil.copy(folder / "dataset.json", folder.parent)
    shutil.copy(folder / "plans.json", folder.parent / "nnUNetPlans.json")
    assert load_model(folder.parent).folder == folder
    shutil.rmtree(folder)
    with pytest.raises(
        ModelError, match=r"is not an nnU-Net v2 model: weights missing, found dataset\.json, nnUNetPlans"
    ):
        load_model(folder.parent)
