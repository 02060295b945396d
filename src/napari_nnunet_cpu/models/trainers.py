"""Trainers of nnU-Net, by name: which ones build the network that the plans describe, and what others build.

A trainer is a Python class that may build any network it likes. We never import one; the
names below are those of nnunetv2 2.0 to 2.8.1. Most change training alone (loss, optimizer,
length, augmentation), so that the plans tell the truth about the network.
"""

from __future__ import annotations

import re

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.architecture import Architecture
from napari_nnunet_cpu.models.plans import Configuration
from napari_nnunet_cpu.models.primus import PRIMUS_TRAINERS, Primus

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
    ]
)


def network_of(trainer: str, configuration: Configuration, where: str) -> Architecture | Primus:
    """The network that a trainer builds for a configuration.

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
        When it is not known what network the trainer builds.
    """
    if trainer in PRIMUS_TRAINERS:
        return Primus(PRIMUS_TRAINERS[trainer], configuration.patch_size)
    if trainer == _BATCH_NORM:
        return configuration.architecture.with_batch_norm()
    if trainer in _ONLY_TRAINING or _LENGTH.fullmatch(trainer):
        return configuration.architecture
    raise ModelError(
        f"{where} was trained by {trainer[:100]!r}, which is not known to keep the network of its plans; "
        "models of nnU-Net's own trainers can be used"
    )
