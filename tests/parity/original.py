"""nnU-Net's own networks, trainers and planners, imported here and nowhere else."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import pkgutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

PLANNERS = {
    "ExperimentPlanner": "default_experiment_planner",
    "ResEncUNetPlanner": "resencUNet_planner",
    "nnUNetPlannerResEncM": "residual_unets.residual_encoder_unet_planners",
    "nnUNetPlannerResEncL": "residual_unets.residual_encoder_unet_planners",
    "nnUNetPlannerResEncXL": "residual_unets.residual_encoder_unet_planners",
}


@functools.cache
def trainers() -> dict[str, type]:
    """Every trainer that comes with nnU-Net, by its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = importlib.import_module("nnunetv2.training.nnUNetTrainer")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
        base = importlib.import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer").nnUNetTrainer
    return {trainer.__name__: trainer for trainer in (base, *_subclasses(base))}


def _subclasses(base: type) -> Iterator[type]:
    for trainer in base.__subclasses__():
        yield trainer
        yield from _subclasses(trainer)


def build(trainer: str, plans: dict[str, Any], configuration: str, channels: int, heads: int) -> torch.nn.Module:
    """The network as nnU-Net builds it to predict."""
    found = trainers()[trainer]
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(copy.deepcopy(plans))  # a trainer may write into it
    # This part of the initialization fails where residual blocks have no norm, or one without weights.
    initialization = "dynamic_network_architectures.architectures.unet.init_last_bn_before_add_to_0"
    with warnings.catch_warnings(), mock.patch(initialization):
        warnings.filterwarnings("ignore", "Detected old nnU-Net plans format|Network class .* not found")
        network = found.build_network_architecture(
            manager, manager.get_configuration(configuration), channels, heads, False
        )
    return network.eval()


def plan(planner: str, spacing: Sequence[float], shape: Sequence[int], root: Path) -> dict[str, Any]:
    """What a planner writes into the plans for images of this spacing and shape: one configuration.

    `root` must be where the variables nnUNet_raw and nnUNet_preprocessed point to.
    """
    module = importlib.import_module(f"nnunetv2.experiment_planning.experiment_planners.{PLANNERS[planner]}")
    from nnunetv2.utilities.json_export import recursive_fix_for_json_export

    folder = root / "Dataset999_Random"
    (folder / "imagesTr").mkdir(parents=True)
    labels = {"background": 0, "liver": 1, "kidney": 2}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 100, "file_ending": ".nii.gz"}
    fingerprint = {"median_relative_size_after_cropping": 1.0}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    with torch.device("meta"):  # it builds networks to learn how large they are
        found = getattr(module, planner)(folder.name).get_plans_for_configuration(
            np.array(spacing), np.array(shape), "data", 1e12, {}
        )
    recursive_fix_for_json_export(found)
    document: dict[str, Any] = json.loads(json.dumps(found))
    return document
