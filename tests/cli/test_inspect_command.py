import json

import pytest
from random_model import RandomModel

from napari_nnunet_cpu import Settings, load_model
from napari_nnunet_cpu.engines import available_devices, plan_engine
from napari_nnunet_cpu.resources import usable_cores


def test_json(nnunet, model):
    document = json.loads(nnunet("inspect", model, "--json").stdout)
    description = load_model(model).describe()
    assert {key: document[key] for key in description} == description
    assert document["passes_per_tile"] == {"mirrored": 8, "plain": 2}
    choice = plan_engine(load_model(model), Settings())
    assert document["machine"]["engine"] == choice.engine
    assert document["machine"]["reason"] == choice.reason != ""
    fast = plan_engine(load_model(model), Settings.fast())
    assert document["machine"]["precision"] == fast.precision
    assert document["machine"]["precision_reason"] == fast.precision_reason != ""
    assert document["machine"]["cores"] == usable_cores()
    devices = [{"name": device.name, "label": device.label} for device in available_devices()]
    assert document["machine"]["devices"] == devices
    assert document["machine"]["device"] == devices[min(1, len(devices) - 1)]["name"]


def test_folds_and_checkpoint(nnunet, model, tmp_path):
    document = json.loads(nnunet("inspect", model, "-f", "1", "--json").stdout)
    assert document["folds"] == ["1"]
    assert document["passes_per_tile"] == {"mirrored": 4, "plain": 1}
    other = RandomModel().write(tmp_path)
    (other / "fold_0" / "checkpoint_final.pth").rename(other / "fold_0" / "checkpoint_best.pth")
    best = nnunet("inspect", other, "--checkpoint", "checkpoint_best.pth", "--json")
    assert json.loads(best.stdout)["checkpoint"] == "checkpoint_best.pth"


@pytest.mark.parametrize("stages", [["3d_fullres"], ["3d_lowres", "3d_cascade_fullres"]], ids=["one", "cascade"])
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["for-people", "for-machines"])
def test_an_unknown_trainer_is_told_of(nnunet, tmp_path, stages, options):
    first = RandomModel(trainer="FirstTrainer", called="3d_lowres") if len(stages) > 1 else None
    folder = RandomModel(trainer="MyTrainer", first_stage=first).write(tmp_path)
    done = nnunet("inspect", folder, *options)
    trained = load_model(folder)
    assert [stage.configuration_name for stage in trained.stages] == stages
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [f"notice: {stage.notice}" for stage in trained.stages]
    assert "trained by MyTrainer, which is not known here" in done.stderr
    if options:
        assert json.loads(done.stdout)["notice"] == trained.notice


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_configuration(nnunet, tmp_path, configuration):
    RandomModel().write(tmp_path)
    folder = RandomModel(patch=(16, 12), spacing=(1.0, 0.5)).write(tmp_path).parent
    document = json.loads(nnunet("inspect", folder, "-c", configuration, "--json").stdout)
    assert document["configuration"] == configuration


def test_tables(nnunet, model):
    text = nnunet("inspect", model).stdout
    for row in (
        ("configuration", "3d_fullres"),
        ("labels", "0 background, 1 liver, 2 kidney"),
        ("patch (Z, Y, X)", "16 x 16 x 16"),
        ("spacing (Z, Y, X)", "1 x 1 x 1 mm"),
        ("passes per tile", "8 with mirroring, 2 without"),
        ("chosen", plan_engine(load_model(model), Settings()).engine + " on"),
        ("preset fast", "int8"),
        ("usable cores", str(usable_cores())),
    ):
        assert any(all(part in line for part in row) for line in text.splitlines()), row


def test_tables_of_a_flat_model_with_regions(nnunet, tmp_path):
    labels = {"background": 0, "whole [red]tumour": [1, 2], "core": [2]}
    regions = RandomModel(patch=(16, 12), spacing=(1.0, 0.5), labels=labels, regions_class_order=[1, 2])
    text = nnunet("inspect", regions.write(tmp_path)).stdout
    assert "labels, overlapping" in text
    assert "whole [red]tumour" in text
    for row in (("patch (Y, X)", "16 x 12"), ("spacing (Y, X)", "1 x 0.5 mm"), ("mirroring", "not trained for it")):
        assert any(all(part in line for part in row) for line in text.splitlines()), row


def test_not_a_model(nnunet):
    done = nnunet("inspect", ".", "--json")
    assert done.exit_code == 1
    assert done.stderr == f"error: {json.loads(done.stdout)['error']}\n"
