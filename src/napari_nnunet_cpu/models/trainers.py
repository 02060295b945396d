"""Trainers of nnU-Net, by name: which ones build the network that the plans describe, and what others build.

A trainer is a Python class that may build any network it likes. We never import one; the
names below are those of nnunetv2 2.0 to 2.8.1, TotalSegmentator and MOOSE. Most change training
alone (loss, optimizer, length, augmentation), so that the plans tell the truth about the network.
A trainer that is not listed is taken to be such a one, with a notice, unless its name says that
it changes the network; whether the weights fit the plans' network is checked anyway.
"""

from __future__ import annotations

import re

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.models.network.primus import PRIMUS_TRAINERS, Primus
from napari_nnunet_cpu.models.plans import Configuration

_LONGEST_NAME = 200
_BATCH_NORM = "nnUNetTrainerBN"
_LENGTH = re.compile(r"nnUNetTrainer(_\d+epochs?)?(_NoMirroring)?")
_ONLY_TRAINING = frozenset(
    [
        "nnUNetTrainerBenchmark_5epochs",
        "nnUNetTrainerBenchmark_5epochs_noDataLoading",
        "nnUNetTrainerDA5",
        "nnUNetTrainerDA5ord0",
        "nnUNetTrainerDA5Segord0",
        "nnUNetTrainerDA5_10epochs",
        "nnUNetTrainerDAOrd0",  # until 2.4.2
        "nnUNetTrainerNoDA",
        "nnUNetTrainer_DASegOrd0",
        "nnUNetTrainer_DASegOrd0_NoMirroring",
        "nnUNetTrainer_noDummy2DDA",
        "nnUNetTrainerNoMirroring",
        "nnUNetTrainer_onlyMirror01",
        "nnUNetTrainer_onlyMirror01_1500ep",
        "nnUNetTrainer_onlyMirror01_DASegOrd0",
        "nnUNetTrainer_onlyMirror01_DA5",
        "nnUNetTrainer_warmup",
        "nnUNetTrainerCosAnneal",
        "nnUNetTrainerAdan",
        "nnUNetTrainerAdan1en3",
        "nnUNetTrainerAdan3en4",
        "nnUNetTrainerAdan1en1",
        "nnUNetTrainerAdanCosAnneal",
        "nnUNetTrainerAdam",
        "nnUNetTrainerAdam1en3",
        "nnUNetTrainerAdam3en4",
        "nnUNetTrainerVanillaAdam",
        "nnUNetTrainerVanillaAdam1en3",
        "nnUNetTrainerVanillaAdam3en4",
        "nnUNetTrainerDiceLoss",
        "nnUNetTrainerDiceCELoss_noSmooth",
        "nnUNetTrainerTopk10Loss",
        "nnUNetTrainerTopk10LossLS01",
        "nnUNetTrainerDiceTopK10Loss",
        "nnUNetTrainerCELoss",
        "nnUNetTrainerCELoss_5epochs",
        "nnUNetTrainerNoDeepSupervision",
        "nnUNetTrainer_probabilisticOversampling",
        "nnUNetTrainer_probabilisticOversampling_033",
        "nnUNetTrainer_probabilisticOversampling_010",
        "nnUNet_Trainer_BS8",
        # TotalSegmentator's
        "nnUNetTrainerDiceTopK10Loss_2000epochs",
        "nnUNetTrainerSkeletonRecall",
        "nnUNetTrainer_MOSAIC_1k_QuarterLR_NoMirroring",
        # MOOSE's
        "nnUNetTrainer_2000_epochs_DA5NoMirroring",
    ]
)
# What a name may hold that changes the network: first what weights can't tell, then what they mostly can.
_ANOTHER_NETWORK = re.compile(
    r"(?<![A-Z])(?:BN|GN|LN|FRN)(?![a-z])|(?i:(?:batch|group|layer|instance|weight|rms|no)_?norm)"
    r"|(?i:relu|gelu|mish|silu|swish|selu|celu|softplus)|ELU(?![a-z])"
    r"|Primus|Mamba|LSTM|RWKV|ViT(?![a-z])|KAN(?![a-z])|CBAM|UNETR|(?i:swin|former|attention|attn)"
    r"|STUNet|MedNeXt|ConvNeXt|HRNet|DenseNet|DeepLab|UNetPlusPlus|UNetPP"
)


def network_of(trainer: str, configuration: Configuration, where: str) -> Architecture | Primus:
    """The network that a trainer builds for a configuration, as far as its name tells.

    Parameters
    ----------
    trainer : str
        Name of its class.
    configuration : Configuration
        From the plans.
    where : str
        The checkpoint, for messages.

    Raises
    ------
    ModelError
        When the name says that the trainer changes the network in a way that is not known here.
    """
    if trainer in PRIMUS_TRAINERS:
        return Primus(PRIMUS_TRAINERS[trainer], configuration.patch_size)
    if trainer == _BATCH_NORM:
        return configuration.architecture.with_batch_norm()
    if not _is_known(trainer):
        _refuse_another_network(trainer, where)
    return configuration.architecture


def notice_of(trainer: str) -> str | None:
    """What users have to know of a model because of its trainer; None for those that are known."""
    if _is_known(trainer):
        return None
    return (
        f"trained by {trainer}, which is not known here; its weights fit the plans' network, but they do not tell "
        "a nonlinearity or the kind and epsilon of a norm, which are those of the plans"
    )


def _is_known(trainer: str) -> bool:
    return (
        trainer in _ONLY_TRAINING
        or trainer in PRIMUS_TRAINERS
        or trainer == _BATCH_NORM
        or _LENGTH.fullmatch(trainer) is not None
    )


def _refuse_another_network(trainer: str, where: str) -> None:
    """Raise `ModelError` for a name that no class can have, or one that tells of another network."""
    if not trainer.isidentifier() or len(trainer) > _LONGEST_NAME:
        raise ModelError(f"{where} was trained by {trainer[:_LONGEST_NAME]!r}, which is no name of a trainer")
    found = _ANOTHER_NETWORK.search(trainer)
    if found is not None:
        raise ModelError(
            f"{where} was trained by {trainer!r}, whose name ({found[0]}) says that its network is not that of the "
            "plans; models of trainers that keep the plans' network can be used"
        )
