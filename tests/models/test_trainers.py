import pytest
from random_model import RandomModel

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.documents import parse
from napari_nnunet_cpu.models.plans import Plans
from napari_nnunet_cpu.models.primus import Primus
from napari_nnunet_cpu.models.trainers import network_of


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


@pytest.mark.parametrize(
    "name",
    [
        "AbstractPrimus",
        "nnUNet_Primus_XL_Trainer",
        "nnUNet_PrimusV4S_Trainer",
        "_Primus_L_96_BS1",
        "nnUNetTrainerBN_250epochs",
        "nnUNetTrainer_250epochs_BN",
        "nnUNetTrainer_250epochs\n",
        "nnunettrainer",
        "nnUNetTrainerUMambaBot",
        "STUNetTrainer_small",
        "nnUNetTrainer_HRNet18",
        "",
        "nnUNetTrainer_nnActive_NoMirroring_anonymous_1000epochs",
    ],
)
def test_an_unknown_trainer_is_refused_by_name(configuration, name):
    with pytest.raises(ModelError, match=r"^checkpoint was trained by .*, which is not known to keep the") as caught:
        network_of(name, configuration, "checkpoint")
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)
