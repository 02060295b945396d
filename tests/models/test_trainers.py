import shutil
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_files import ARGUMENTS, CHECKPOINT, edit_checkpoint, edit_json, put
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.documents import parse
from napari_nnunet_cpu.models.network.primus import PRIMUS_TRAINERS, Primus
from napari_nnunet_cpu.models.plans import Plans
from napari_nnunet_cpu.models.trainers import network_of, notice_of


@pytest.fixture(scope="module")
def configuration():
    model = RandomModel(patch=(16, 24, 32))
    return parse(Plans, model.plans(), "plans").configuration(model.configuration, "plans")


@pytest.mark.parametrize(
    "name",
    [
        "nnUNetTrainer",
        "nnUNetTrainer_1epoch",
        "nnUNetTrainer_8000epochs",
        "nnUNetTrainer_250epochs_NoMirroring",
        "nnUNetTrainerDAOrd0",  # the first release had it, the last one has not
        "nnUNetTrainerDA5",
        "nnUNetTrainerNoDeepSupervision",
        "nnUNetTrainer_onlyMirror01_1500ep",
        "nnUNet_Trainer_BS8",
    ],
)
def test_most_trainers_build_the_network_of_the_plans(configuration, name):
    assert network_of(name, configuration, "model") is configuration.architecture


def test_one_trainer_replaces_the_normalization_alone(configuration):
    architecture, plain = network_of("nnUNetTrainerBN", configuration, "model"), configuration.architecture
    assert (architecture.norm_op, architecture.norm_op_kwargs.model_dump(exclude_none=True)) == (
        "BatchNorm3d", {"eps": 1e-5, "affine": True, "momentum": 0.1},
    )  # fmt: skip
    same = {"norm_op": plain.norm_op, "norm_op_kwargs": plain.norm_op_kwargs}
    assert architecture.model_copy(update=same) == plain


@pytest.mark.parametrize(
    ("name", "family", "blocks"),
    [
        ("nnUNet_Primus_S_Trainer", "PrimusS", 12),
        ("nnUNet_Primus_B_Trainer", "PrimusB", 12),
        ("nnUNet_Primus_M_Trainer", "PrimusM", 16),
        ("nnUNet_Primus_M_Trainer_BS8", "PrimusM", 16),
        ("nnUNet_Primus_M_Trainer_BS8_2e4", "PrimusM", 16),
        ("nnUNet_Primus_L_Trainer", "PrimusL", 24),
        ("nnUNet_PrimusV2S_Trainer", "PrimusV2S", 12),
        ("nnUNet_PrimusV3L_Trainer", "PrimusV3L", 24),
        ("_Primus_B_96_BS1", "PrimusB", 12),
        ("_Primus_L_48_BS1", "PrimusL", 24),
    ],
)
def test_some_trainers_build_a_transformer(configuration, name, family, blocks):
    found = network_of(name, configuration, "model")
    assert (found, found.blocks) == (Primus(family, (16, 24, 32)), blocks)


KNOWN = [
    # of TotalSegmentator
    "nnUNetTrainer",
    "nnUNetTrainerNoMirroring",
    "nnUNetTrainer_2000epochs_NoMirroring",
    "nnUNetTrainer_4000epochs_NoMirroring",
    "nnUNetTrainer_DASegOrd0",
    "nnUNetTrainer_DASegOrd0_NoMirroring",
    "nnUNetTrainer_onlyMirror01",
    "nnUNetTrainerDiceTopK10Loss_2000epochs",
    "nnUNetTrainerSkeletonRecall",
    "nnUNetTrainer_MOSAIC_1k_QuarterLR_NoMirroring",
    # of MOOSE
    "nnUNetTrainerDA5",
    "nnUNetTrainer_2000epochs",
    "nnUNetTrainer_2000_epochs_DA5NoMirroring",
]
UNKNOWN = [
    "autoPET3_Trainer",
    "nnUNetTrainerFineTuneLR1e3_619autoPetStem_010misalign_rot555_sh022_noSmooth_organs_1500ep",
    "nnUNetTrainer_nnActive_NoMirroring_anonymous_1000epochs",
    "nnUNetTrainer_NoMirroring_ep500",
    "nnUNetTrainer_my",
    "nnUNetTrainerDA5_2000epochs",
    "nnUNetTrainer_betterIgnoreSampling_noSmooth",
    "nnUNetTrainerTransformsOnly",
    "nnunettrainer",
    "MyTrainer",
]
CHANGES = [
    # what weights can't tell
    "BN", "GN", "LN", "FRN", "GroupNorm", "batch_norm", "LayerNorm", "NoNorm", "noNormalization", "InstanceNorm",
    "ReLU", "PReLU", "LReLU", "LeakyReLU", "GELU", "GeLU", "Mish", "SiLU", "Swish", "ELU",
    # networks
    "UMambaBot", "UxLSTM", "UNETR", "SwinUNETR", "UNeXtFormer", "Transformer", "MedNeXt", "STUNet", "HRNet18",
    "Primus", "AttentionUNet", "UKAN", "CBAMLite", "TransformerBottleneck",
]  # fmt: skip
BASES = [*KNOWN, *UNKNOWN]


@pytest.mark.parametrize("name", [*KNOWN, "nnUNetTrainerBN", *PRIMUS_TRAINERS])
def test_a_known_trainer_needs_no_notice(name):
    assert notice_of(name) is None


@pytest.mark.parametrize("name", UNKNOWN)
def test_any_other_trainer_is_taken_at_its_plans_with_a_notice(configuration, name):
    assert network_of(name, configuration, "model") is configuration.architecture
    assert notice_of(name) == (
        f"trained by {name}, which is not known here; its weights fit the plans' network, but weights do not reveal "
        "the nonlinearity or the kind and epsilon of the norm, so these are taken from the plans"
    )


@given(
    base=st.sampled_from(BASES),
    change=st.sampled_from(CHANGES),
    joint=st.sampled_from(["", "_"]),
    end=st.sampled_from(["", "_250epochs", "_NoMirroring", "2"]),
)
def test_a_name_that_changes_the_network_is_refused(configuration, base, change, joint, end):
    name = f"{base}{joint}{change}{end}"
    if name == "nnUNetTrainerBN" or (joint == "" and base[-1].isupper()):  # in capitals alone no word begins
        return
    with pytest.raises(ModelError, match=r"^checkpoint was trained by \S+, whose name \(\w+\) says that its network"):
        network_of(name, configuration, "checkpoint")


@pytest.mark.parametrize(
    "name",
    [
        "AbstractPrimus",
        "nnUNet_Primus_XL_Trainer",
        "nnUNet_PrimusV4S_Trainer",
        "_Primus_L_96_BS1",
        "nnUNetTrainerBN_250epochs",
        "nnUNetTrainer_250epochs_BN",
        "nnUNetTrainerUMambaBot",
        "STUNetTrainer_small",
        "nnUNetTrainer_HRNet18",
    ],
)
def test_trainers_of_other_networks(configuration, name):
    with pytest.raises(ModelError, match=rf"^checkpoint was trained by '{name}', whose name \("):
        network_of(name, configuration, "checkpoint")


@pytest.mark.parametrize(
    "name", ["", "os.system", "nnUNetTrainer_250epochs\n", "a b", "<b>", "x" * 201, "1st", "\x1b[31m", "nnUNetTrainer;"]
)
def test_what_no_class_is_called_is_refused(configuration, name):
    with pytest.raises(ModelError, match=r"^checkpoint was trained by .*, which is not a valid trainer") as caught:
        network_of(name, configuration, "checkpoint")
    assert repr(name[:200]) in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.fixture
def unknown(folder):
    """A model whose trainer is not known."""
    edit_checkpoint(folder / CHECKPOINT, lambda content: put(content, "trainer_name", "autoPET3_Trainer"))
    return folder


def test_a_model_of_an_unknown_trainer_has_the_notice_and_the_same_weights(unknown, original):
    model, same = load_model(unknown), load_model(original)
    assert model.notice == model.describe()["notice"] == notice_of("autoPET3_Trainer")
    assert model.architecture == same.architecture
    weights = same.network(0).state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.network(0).state_dict().items())
    assert load_model(unknown) == model  # its checkpoints are not read again


TOLD = [
    {"features_per_stage": [4, 8, 16]},
    {"features_per_stage": [5, 8, 12]},
    {"kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]]},
    {"kernel_sizes": 5},
    {"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]]},
    {"n_conv_per_stage": [1, 2, 2]},
    {"n_conv_per_stage_decoder": [2, 1]},
    {"conv_bias": False},
    {"norm_op": None},
    {"norm_op": "torch.nn.BatchNorm3d"},
    {"norm_op_kwargs": {"eps": 1e-5, "affine": False}},
    {"norm_op_kwargs": {"eps": 1e-5, "affine": True, "track_running_stats": True}},
    {"dropout_op": "torch.nn.Dropout3d"},
    {"nonlin_first": True},
]  # fmt: skip
NOT_TOLD = [
    {"nonlin": "torch.nn.ReLU"},
    {"nonlin": None},
    {"nonlin_kwargs": {"negative_slope": 0.2}},
    {"norm_op_kwargs": {"eps": 1e-3, "affine": True}},
]


def differ(changes: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize(
        "change", changes, ids=lambda change: "-".join(f"{k}={v}" for k, v in change.items())
    )


@differ(TOLD)
def test_weights_that_tell_of_another_network_are_refused(unknown, change):
    edit_json(unknown / "plans.json", {f"{ARGUMENTS}.{name}": value for name, value in change.items()})
    with pytest.raises(
        ModelError,
        match=r"does not fit the network of its plans: .*; its trainer autoPET3_Trainer is not known here and may",
    ):
        load_model(unknown)


@differ(NOT_TOLD)
def test_what_weights_do_not_tell_is_in_the_notice(unknown, change):
    edit_json(unknown / "plans.json", {f"{ARGUMENTS}.{name}": value for name, value in change.items()})
    notice = load_model(unknown).notice
    assert notice is not None
    assert next(iter(change)).split("_")[0].replace("nonlin", "nonlinearity") in notice


@given(data=st.data())
def test_any_other_weight_is_refused(original, tmp_path_factory, data):
    """One that is missing, one too many, one of another shape."""
    folder = shutil.copytree(original, tmp_path_factory.mktemp("changed") / "model")

    def change(content: dict[str, Any]) -> None:
        content["trainer_name"] = "MyTrainer"
        weights = content["network_weights"]
        name = data.draw(st.sampled_from(sorted(weights)))
        match data.draw(st.sampled_from(["missing", "more", "longer", "deeper"])):
            case "missing":
                del weights[name]
            case "more":
                weights[f"{name}.gate"] = torch.zeros(1)
            case "longer":
                weights[name] = torch.cat([weights[name], weights[name][:1]])
            case "deeper":
                weights[name] = weights[name][None]

    edit_checkpoint(folder / CHECKPOINT, change)
    with pytest.raises(ModelError, match="does not fit the network of its plans: .*its trainer MyTrainer is not known"):
        load_model(folder)
