"""Trainers of nnU-Net, by name: which ones build the network that the plans describe.

A trainer is a Python class that may build any network it likes. We never import one; the
names below are those of nnunetv2 2.8.1 that change training alone (loss, optimizer, length,
augmentation), so that the plans tell the truth about the network.
"""

from __future__ import annotations

import re

from napari_nnunet_cpu.errors import ModelError

BATCH_NORM_TRAINER = "nnUNetTrainerBN"

_LENGTH = re.compile(r"nnUNetTrainer(_\d+epochs?)?(_NoMirroring)?")
_ONLY_TRAINING = frozenset(
    [
        "nnUNetTrainerBN",
        "nnUNetTrainerBenchmark_5epochs",
        "nnUNetTrainerBenchmark_5epochs_noDataLoading",
        "nnUNetTrainerDA5",
        "nnUNetTrainerDA5ord0",
        "nnUNetTrainerDA5Segord0",
        "nnUNetTrainerDA5_10epochs",
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


def check_trainer(name: str, where: str) -> None:
    """Raise `ModelError` unless the trainer of this name is known to keep the plans' network."""
    if name not in _ONLY_TRAINING and not _LENGTH.fullmatch(name):
        raise ModelError(
            f"{where} was trained by {name}, which is not known to keep the network of its plans; "
            "models of nnU-Net's own U-Net trainers can be used"
        )
