"""nnU-Net's trainers by name: whether they build the network in the plans or another one.

A trainer is a Python class that may build any network. We never import one. The names below are
those of nnunetv2 2.0 to 2.8.1, TotalSegmentator and MOOSE. Most trainers change only the training
(loss, optimizer, length, augmentation), so the plans describe their network correctly. We assume
the same of an unknown trainer, with a notice, unless its name indicates another network. In any
case we check that the weights fit the network of the plans.
"""

from __future__ import annotations

import re

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.network import PRIMUS_TRAINERS, Architecture, Primus
from napari_nnunet_cpu.models.plans import Configuration

_MAX_NAME = 200
_BATCH_NORM = "nnUNetTrainerBN"
_LENGTH = re.compile(r"nnUNetTrainer(_\d+epochs?)?(_NoMirroring)?")
# Trainers that change only the training.
_ONLY_TRAINING = frozenset([
    # length and benchmark
    "nnUNetTrainerBenchmark_5epochs", "nnUNetTrainerBenchmark_5epochs_noDataLoading",
    # augmentation
    "nnUNetTrainerDA5", "nnUNetTrainerDA5ord0", "nnUNetTrainerDA5Segord0", "nnUNetTrainerDA5_10epochs",
    "nnUNetTrainerDAOrd0", "nnUNetTrainerNoDA", "nnUNetTrainer_DASegOrd0", "nnUNetTrainer_DASegOrd0_NoMirroring",
    "nnUNetTrainer_noDummy2DDA", "nnUNetTrainerNoMirroring", "nnUNetTrainer_onlyMirror01",
    "nnUNetTrainer_onlyMirror01_1500ep", "nnUNetTrainer_onlyMirror01_DASegOrd0", "nnUNetTrainer_onlyMirror01_DA5",
    # optimizer
    "nnUNetTrainer_warmup", "nnUNetTrainerCosAnneal", "nnUNetTrainerAdan", "nnUNetTrainerAdan1en3",
    "nnUNetTrainerAdan3en4", "nnUNetTrainerAdan1en1", "nnUNetTrainerAdanCosAnneal", "nnUNetTrainerAdam",
    "nnUNetTrainerAdam1en3", "nnUNetTrainerAdam3en4", "nnUNetTrainerVanillaAdam", "nnUNetTrainerVanillaAdam1en3",
    "nnUNetTrainerVanillaAdam3en4",
    # loss
    "nnUNetTrainerDiceLoss", "nnUNetTrainerDiceCELoss_noSmooth", "nnUNetTrainerTopk10Loss",
    "nnUNetTrainerTopk10LossLS01", "nnUNetTrainerDiceTopK10Loss", "nnUNetTrainerCELoss", "nnUNetTrainerCELoss_5epochs",
    "nnUNetTrainerNoDeepSupervision",
    # sampling
    "nnUNetTrainer_probabilisticOversampling", "nnUNetTrainer_probabilisticOversampling_033",
    "nnUNetTrainer_probabilisticOversampling_010", "nnUNet_Trainer_BS8",
    # TotalSegmentator's and MOOSE's
    "nnUNetTrainerDiceTopK10Loss_2000epochs", "nnUNetTrainerSkeletonRecall",
    "nnUNetTrainer_MOSAIC_1k_QuarterLR_NoMirroring", "nnUNetTrainer_2000_epochs_DA5NoMirroring",
])  # fmt: skip
# Parts of a trainer's name that indicate another network: first differences that weights can't reveal, then differences
# that they often reveal.
_ANOTHER_NETWORK = re.compile(
    r"(?<![A-Z])(?:BN|GN|LN|FRN)(?![a-z])|(?i:(?:batch|group|layer|instance|weight|rms|no)_?norm)"
    r"|(?i:relu|gelu|mish|silu|swish|selu|celu|softplus)|ELU(?![a-z])"
    r"|Primus|Mamba|LSTM|RWKV|ViT(?![a-z])|KAN(?![a-z])|CBAM|UNETR|(?i:swin|former|attention|attn)"
    r"|STUNet|MedNeXt|ConvNeXt|HRNet|DenseNet|DeepLab|UNetPlusPlus|UNetPP"
)


def network_of(trainer: str, configuration: Configuration, where: str) -> Architecture | Primus:
    """The network that a trainer builds for a configuration, as far as its name tells.

    Raises `ModelError` if the name indicates another network; `where` names the checkpoint for the message.
    """
    if trainer in PRIMUS_TRAINERS:
        return Primus(PRIMUS_TRAINERS[trainer], configuration.patch_size)
    if trainer == _BATCH_NORM:
        return configuration.architecture.with_batch_norm()
    if not _is_known(trainer):
        _refuse_another_network(trainer, where)
    return configuration.architecture


def notice_of(trainer: str) -> str | None:
    """A warning for users of a model from an unknown trainer; None for a known one."""
    if _is_known(trainer):
        return None
    return (
        f"trained by {trainer}, which is not known here; its weights fit the plans' network, but weights do not reveal "
        "the nonlinearity or the kind and epsilon of the norm, so these are taken from the plans"
    )


def _is_known(trainer: str) -> bool:
    return (
        trainer in _ONLY_TRAINING
        or trainer in PRIMUS_TRAINERS
        or trainer == _BATCH_NORM
        or _LENGTH.fullmatch(trainer) is not None
    )


def _refuse_another_network(trainer: str, where: str) -> None:
    """Raise `ModelError` for an invalid class name, and for one that indicates another network."""
    if not trainer.isidentifier() or len(trainer) > _MAX_NAME:
        raise ModelError(f"{where} was trained by {trainer[:_MAX_NAME]!r}, which is not a valid trainer name")
    found = _ANOTHER_NETWORK.search(trainer)
    if found is not None:
        raise ModelError(
            f"{where} was trained by {trainer!r}, whose name ({found[0]}) says that its network is not that of the "
            "plans; choose a model whose trainer keeps the network of the plans"
        )
