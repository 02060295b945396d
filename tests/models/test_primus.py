import sys
from importlib import metadata

import pytest
from model_files import CONFIGURATION, edit_json
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.network.patch_fit import check_patch
from napari_nnunet_cpu.models.network.primus import Primus

MISSING = r"^{} needs dynamic-network-architectures 0\.4\.4 or newer \({}\); install napari-nnunet-cpu\[primus\]$"


@pytest.fixture
def no_library(monkeypatch):
    """As if dynamic-network-architectures were not installed."""

    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures", None)


@pytest.fixture
def old_library(no_library, monkeypatch):
    """As if a version were installed that takes tokens in another order."""
    monkeypatch.setattr(metadata, "version", lambda _: "0.4.2")


def test_the_package_to_install_is_named(no_library, tmp_path):
    folder = RandomModel(trainer="nnUNet_Primus_M_Trainer").write(tmp_path)
    with pytest.raises(ModelError, match=MISSING.format("PrimusM", "No package metadata was found for .*")):
        load_model(folder)


def test_the_package_may_be_too_old(old_library, tmp_path):
    folder = RandomModel(trainer="nnUNet_Primus_S_Trainer").write(tmp_path)
    with pytest.raises(ModelError, match=MISSING.format("PrimusS", r"found 0\.4\.2")):
        load_model(folder)


def test_it_is_not_imported_for_a_u_net(no_library, tmp_path):
    load_model(RandomModel().write(tmp_path)).network(0)


def test_its_patch_need_not_fit_the_network_of_the_plans(no_library, tmp_path):
    folder = RandomModel(trainer="_Primus_L_48_BS1").write(tmp_path)
    edit_json(folder / "plans.json", {f"{CONFIGURATION}.patch_size": [48, 48, 40]})
    strides = f"{CONFIGURATION}.architecture.arch_kwargs.strides"
    edit_json(folder / "plans.json", {strides: [1, 4, 4]})
    with pytest.raises(ModelError, match=MISSING.format("PrimusL", ".*")):
        load_model(folder)


@pytest.mark.parametrize("patch", [(8, 8, 8), (96, 96, 96), (8, 16, 320), (320, 320, 320), (512000, 8, 8)])
def test_patches_of_whole_tokens_fit(patch):
    check_patch(Primus("PrimusS", patch), patch, "plans")


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ((16, 16), r"plans: patch_size \(16, 16\) does not fit PrimusS: it needs three multiples of 8"),
        ((16, 16, 12), r"plans: patch_size \(16, 16, 12\) does not fit PrimusS: it needs three multiples of 8"),
        ((4, 16, 16), r"plans: patch_size \(4, 16, 16\) does not fit PrimusS: it needs three multiples of 8"),
        ((320, 320, 328), r"plans: patch_size .* gives PrimusS 65600 tokens, more than 64000"),
        ((4096, 4096, 4096), r"plans: patch_size .* gives PrimusS 134217728 tokens, more than 64000"),
    ],
)
def test_other_patches_are_refused(patch, message):
    with pytest.raises(ModelError, match=f"^{message}$"):
        check_patch(Primus("PrimusS", patch), patch, "plans")


@pytest.mark.parametrize("family", ["PrimusV2S", "PrimusV3L"])
def test_convolutions_need_more_than_one_token(family):
    check_patch(Primus(family, (8, 8, 16)), (8, 8, 16), "plans")
    with pytest.raises(ModelError, match=rf"^plans: patch_size \(8, 8, 8\) does not fit {family}: it leaves one voxel"):
        check_patch(Primus(family, (8, 8, 8)), (8, 8, 8), "plans")


@pytest.mark.parametrize("patch", [[16, 16, 12], [4096, 4096, 4096]])
def test_a_patch_is_refused_before_anything_is_imported(no_library, tmp_path, patch):
    folder = RandomModel(trainer="nnUNet_Primus_S_Trainer").write(tmp_path)
    edit_json(folder / "plans.json", {f"{CONFIGURATION}.patch_size": patch})
    with pytest.raises(ModelError, match=r"plans\.json: patch_size \(.*\) (does not fit|gives) PrimusS"):
        load_model(folder)
