"""Our U-Nets against those that nnU-Net builds, with the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import original
import pytest
import torch
from hypothesis import given, settings
from random_architecture import architectures
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.documents import parse
from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.models.network.networks import build_network
from napari_nnunet_cpu.models.network.patch_fit import check_patch
from napari_nnunet_cpu.models.plans import Plans

NO_NORM = {"norm_op": None, "norm_op_kwargs": None}
DROPOUT = {"dropout_op": "torch.nn.modules.dropout.Dropout3d", "dropout_op_kwargs": {"p": 0.5, "inplace": True}}
BOTTLENECK = {
    "block": "dynamic_network_architectures.building_blocks.residual.BottleneckD",
    "bottleneck_channels": [2, 4, 6],
}
ANISOTROPIC = {
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 5, 1]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 1, 2]],
}
FLAT = {"patch": (16, 16), "spacing": (1.0, 1.0)}
RESIDUAL = {"family": "ResidualEncoderUNet"}
BOTH_WAYS = {"family": "ResidualUNet"}
BATCH_NORM_2D = {"norm_op": "torch.nn.modules.batchnorm.BatchNorm2d", "norm_op_kwargs": {"eps": 1e-3, "momentum": 0.3}}
DROPOUT_2D = {"dropout_op": "torch.nn.Dropout2d", "dropout_op_kwargs": {"p": 0.2}}
NO_NONLINEARITY = {"nonlin": None, "nonlin_kwargs": None}

NETWORKS: dict[str, RandomModel] = {
    "plain": RandomModel(),
    "plain, 2d": RandomModel(**FLAT),
    "plain, two channels": RandomModel(channels=("T1", "T2")),
    "plain, dropout": RandomModel(architecture=DROPOUT),
    "plain, nonlinearity before norm": RandomModel(architecture={"nonlin_first": True}),
    "plain, nonlinearity before norm, dropout": RandomModel(architecture=DROPOUT | {"nonlin_first": True}),
    "plain, no norm": RandomModel(architecture=NO_NORM),
    "plain, no norm, nonlinearity first": RandomModel(architecture=NO_NORM | {"nonlin_first": True}),
    "plain, no bias": RandomModel(architecture={"conv_bias": False}),
    "plain, ReLU": RandomModel(architecture={"nonlin": "torch.nn.ReLU", "nonlin_kwargs": {"inplace": True}}),
    "plain, slope": RandomModel(architecture={"nonlin_kwargs": {"negative_slope": 0.3}}),
    "plain, epsilon, not affine": RandomModel(architecture={"norm_op_kwargs": {"eps": 1e-2, "affine": False}}),
    "plain, anisotropic": RandomModel(architecture=ANISOTROPIC),
    "plain, strides at the first stage": RandomModel(architecture={"strides": [1, 2, [1, 2, 2]]}),
    "plain, one number for all stages": RandomModel(
        architecture={"kernel_sizes": 3, "features_per_stage": 6, "n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
    ),
    "plain, batch norm": RandomModel(trainer="nnUNetTrainerBN"),
    "plain, batch norm, 2d": RandomModel(**FLAT, trainer="nnUNetTrainerBN"),
    "plain, batch norm, old plans": RandomModel(trainer="nnUNetTrainerBN", old_layout=True),
    "plain, batch norm of the plans, 2d": RandomModel(**FLAT, architecture=BATCH_NORM_2D),
    "plain, old plans": RandomModel(old_layout=True),
    "plain, old plans, 2d": RandomModel(**FLAT, old_layout=True),
    "plain, dropout, 2d": RandomModel(**FLAT, architecture=DROPOUT_2D),
    "plain, no nonlinearity": RandomModel(architecture=NO_NONLINEARITY),
    "plain, nonlinearity by its longer name": RandomModel(
        architecture={"nonlin": "torch.nn.modules.activation.LeakyReLU"}
    ),
    "plain, norm without options": RandomModel(architecture={"norm_op_kwargs": None}),
    "plain, deep supervision in the plans": RandomModel(architecture={"deep_supervision": True}),
    "plain, even kernel at the bottom": RandomModel(architecture={"kernel_sizes": [3, 3, [2, 4, 2]]}),
    "residual": RandomModel(**RESIDUAL),
    "residual, 2d": RandomModel(**RESIDUAL, **FLAT),
    "residual, dropout": RandomModel(**RESIDUAL, architecture=DROPOUT),
    "residual, no norm": RandomModel(**RESIDUAL, architecture=NO_NORM),
    "residual, BottleneckD": RandomModel(**RESIDUAL, architecture=BOTTLENECK),
    "residual, BottleneckD, dropout": RandomModel(**RESIDUAL, architecture=BOTTLENECK | DROPOUT),
    "residual, stem": RandomModel(**RESIDUAL, architecture={"stem_channels": 7}),
    "residual, equal features": RandomModel(**RESIDUAL, architecture={"features_per_stage": [6, 6, 6]}),
    "residual, anisotropic": RandomModel(**RESIDUAL, architecture=ANISOTROPIC),
    "residual, batch norm": RandomModel(**RESIDUAL, trainer="nnUNetTrainerBN"),
    "residual, old plans": RandomModel(**RESIDUAL, old_layout=True),
    "residual, no bias": RandomModel(**RESIDUAL, architecture={"conv_bias": False}),
    "residual, no nonlinearity": RandomModel(**RESIDUAL, architecture=NO_NONLINEARITY),
    "residual, ReLU": RandomModel(**RESIDUAL, architecture={"nonlin": "torch.nn.ReLU", "nonlin_kwargs": None}),
    "residual, norm without options": RandomModel(**RESIDUAL, architecture={"norm_op_kwargs": None}),
    "residual, BottleneckD, even kernel at the bottom": RandomModel(
        **RESIDUAL, architecture=BOTTLENECK | {"kernel_sizes": [3, 3, 2]}
    ),
    "residual both ways": RandomModel(**BOTH_WAYS),
    "residual both ways, 2d": RandomModel(**BOTH_WAYS, **FLAT),
    "residual both ways, more blocks": RandomModel(**BOTH_WAYS, architecture={"n_conv_per_stage_decoder": [2, 3]}),
    "residual both ways, dropout": RandomModel(**BOTH_WAYS, architecture=DROPOUT),
    "residual both ways, no norm, no bias": RandomModel(**BOTH_WAYS, architecture=NO_NORM | {"conv_bias": False}),
    "residual both ways, BottleneckD": RandomModel(**BOTH_WAYS, architecture=BOTTLENECK),
    "residual both ways, anisotropic": RandomModel(**BOTH_WAYS, architecture=ANISOTROPIC),
    "residual both ways, batch norm": RandomModel(**BOTH_WAYS, trainer="nnUNetTrainerBN"),
}

# Spacing and shape of what is planned for: equal axes, thick slices, slices alone.
IMAGES = {
    "equal": ((1.0, 1.0, 1.0), (200, 300, 300)),
    "thick": ((3.0, 0.8, 0.8), (60, 400, 400)),
    "flat": ((0.8, 0.8), (512, 512)),
}


@pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS.keys())
def test_logits_equal_the_original_networks(model: RandomModel, tmp_path: Path) -> None:
    ours = load_model(model.write(tmp_path)).network(0)
    theirs = original.build(model.trainer, model.plans(), model.configuration, len(model.channels), len(model.labels))
    theirs.load_state_dict(model.checkpoint()["network_weights"], strict=True)

    assert ours.state_dict().keys() == theirs.state_dict().keys()
    patch = torch.randn((1, len(model.channels), *model.patch), generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        a, b = ours(patch), theirs(patch)
    assert a.shape == b.shape == (1, len(model.labels), *model.patch)
    assert b.std() > 0.1
    assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("planner", original.PLANNERS)
def test_what_the_planners_plan(planner: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and shapes in full size; logits with an eighth of the features and the smallest patch."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path))
    planned = original.plan(planner, *IMAGES[image], tmp_path)
    plans = RandomModel().plans() | {"configurations": {"planned": planned}}
    with torch.device("meta"):
        ours, theirs = both(plans)
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: tensor.shape for name, tensor in theirs.state_dict().items()
    }

    arguments = planned["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [features // 8 for features in arguments["features_per_stage"]]
    patch = planned["patch_size"] = torch.tensor(arguments["strides"]).prod(0).tolist()
    patch[0] *= 2  # at the bottom there must be more than one voxel to normalize
    ours, theirs = both(plans)
    generator = torch.Generator().manual_seed(3)
    with torch.inference_mode():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        ours.load_state_dict(theirs.state_dict(), strict=True)
        tile = torch.randn((1, 1, *patch), generator=generator)
        a, b = ours(tile), theirs(tile)
    assert a.shape == b.shape == (1, 3, *patch)
    assert b.std() > 0.1
    assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def both(plans: dict[str, Any]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Our network of the configuration "planned" and nnU-Net's own."""
    configuration = parse(Plans, plans, "plans").configuration("planned", "plans")
    check_patch(configuration.architecture, configuration.patch_size, "plans")
    return build_network(configuration.architecture, 1, 3), original.build("nnUNetTrainer", plans, "planned", 1, 3)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(drawn=architectures())
def test_a_patch_is_refused_if_and_only_if_nnunet_fails(drawn: tuple[dict[str, Any], tuple[int, int]]) -> None:
    block, patch = drawn
    plans = RandomModel(patch=patch, spacing=(1.0, 1.0)).plans()
    plans["configurations"]["2d"]["architecture"] = json.loads(json.dumps(block))
    try:
        with torch.inference_mode():
            network = original.build("nnUNetTrainer", plans, "2d", 1, 1)
            runs = network(torch.zeros(1, 1, *patch)).shape[2:] == patch
    except (RuntimeError, ValueError):
        runs = False
    try:
        check_patch(parse(Architecture, block, "plans"), patch, "plans")
        fits = True
    except ModelError:
        fits = False
    assert fits == runs
