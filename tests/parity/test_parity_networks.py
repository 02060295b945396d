"""Our networks against dynamic_network_architectures' own, with the same weights."""

from __future__ import annotations

import pydoc
from pathlib import Path
from typing import Any

import pytest
import torch
from random_model import RandomModel

from napari_nnunet_cpu import load_model

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
}


def original(model: RandomModel) -> torch.nn.Module:
    """The network as dynamic_network_architectures builds it from the plans."""
    block = model.plans()["configurations"][model.configuration]["architecture"]
    kwargs: dict[str, Any] = dict(block["arch_kwargs"])
    if model.trainer == "nnUNetTrainerBN":
        norm = f"torch.nn.modules.batchnorm.BatchNorm{len(model.patch)}d"
        kwargs |= {"norm_op": norm, "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
    for name in block["_kw_requires_import"]:
        kwargs[name] = None if kwargs[name] is None else pydoc.locate(kwargs[name])
    heads = len(model.labels)
    network = pydoc.locate(block["network_class_name"])(
        input_channels=len(model.channels), num_classes=heads, deep_supervision=False, **kwargs
    )
    network.load_state_dict(model.checkpoint()["network_weights"], strict=True)
    return network.eval()


@pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS.keys())
def test_logits_equal_the_original_networks(model: RandomModel, tmp_path: Path) -> None:
    ours = load_model(model.write(tmp_path)).network(0)
    theirs = original(model)

    assert ours.state_dict().keys() == theirs.state_dict().keys()
    patch = torch.randn((1, len(model.channels), *model.patch), generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        a, b = ours(patch), theirs(patch)
    assert a.shape == b.shape == (1, len(model.labels), *model.patch)
    assert b.std() > 0.1
    assert (a - b).abs().max() <= 1e-5 * b.abs().max()
