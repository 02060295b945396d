"""The counted layers are those of the network as torch builds it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from random_model import RandomModel
from torch import nn

from napari_nnunet_cpu.models import load_model
from napari_nnunet_cpu.models.network.networks import build_network
from napari_nnunet_cpu.models.network.operations import Layer, layers


def convolutions(network: nn.Module, shape: tuple[int, ...]) -> Counter[Layer]:
    """The convolutions that a pass goes through."""
    found: Counter[Layer] = Counter()

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        weights = module.weight.numel()
        # Every tap of a transposed convolution with equal kernel and stride gives a voxel of its own.
        places = inputs[0] if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d) else output
        found[Layer(weights, weights * places[0, 0].numel(), output.numel())] += 1

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, *shape))
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"family": "ResidualEncoderUNet"},
        {"family": "ResidualUNet"},
        {"patch": (16, 32), "spacing": (1.0, 1.0)},
        {"architecture": {"features_per_stage": [32, 64, 128], "n_conv_per_stage": [2, 3, 2]}},
        {"architecture": {"kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]]}, "patch": (8, 16, 24)},
    ],
    ids=["plain", "residual encoder", "residual", "2d", "wide", "anisotropic"],
)
def test_layers_are_those_of_the_network(options: dict[str, Any], tmp_path: Path) -> None:
    model = load_model(RandomModel(**options).write(tmp_path))
    channels, heads, patch = model.input_channels, model.labels.heads, model.configuration.patch_size
    network = build_network(model.architecture, channels, heads)
    counted = Counter(layers(model.architecture, channels, heads, patch))
    assert counted == convolutions(network, (channels, *patch))
