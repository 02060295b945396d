"""Convolutions of concatenated maps against torch, which concatenates them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_nnunet_cpu.engines.openvino.compiled import compiled
from napari_nnunet_cpu.engines.openvino.concatenation import convolve_apart
from napari_nnunet_cpu.engines.openvino.conversion import _translated


class Skip(torch.nn.Module):
    """Three maps of the image with different numbers of channels, put beside each other along an axis and convolved."""

    def __init__(self, dimensions: int, axis: int = 1, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = (torch.nn.Conv2d, torch.nn.Conv3d)[dimensions - 2]
        channels = (4, 7, 1) if axis == 1 else (4, 4, 4)
        self.branches = torch.nn.ModuleList(layer(2, number, 3, padding=1) for number in channels)
        self.after = layer(sum(channels) if axis == 1 else 4, 8, 3, **options)
        self.axis = axis

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.after(torch.cat([branch(image) for branch in self.branches], self.axis))
        return found


def read_by_convolutions(network: Any) -> list[str]:
    """What gives each convolution its input."""
    nodes = [node for node in network.get_ordered_ops() if node.get_type_name() == "Convolution"]
    return [node.input_value(0).get_node().get_type_name() for node in nodes]


@pytest.mark.parametrize(
    "options", [{"padding": 1}, {"stride": 2, "padding": 2, "dilation": 2}, {"bias": False}], ids=str
)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_sum_is_the_convolution(dimensions: int, options: dict[str, Any]) -> None:
    network = Skip(dimensions, **options).eval()
    image = torch.randn(1, 2, *(9, 12, 10)[:dimensions])
    found = _translated(network, image)
    found.reshape(list(image.shape))
    assert read_by_convolutions(found).count("Concat") == 1
    convolve_apart(found)
    assert "Concat" not in read_by_convolutions(found)
    assert len(read_by_convolutions(found)) == 3 + 3
    with torch.inference_mode():
        expected = network(image).numpy()
    np.testing.assert_allclose(compiled(found, image.shape, 1)([image.numpy()])[0], expected, rtol=1e-4, atol=1e-5)


def test_what_is_concatenated_along_another_axis_is_left_alone() -> None:
    network, image = Skip(3, axis=2, padding=1).eval(), torch.randn(1, 2, 5, 6, 7)
    found = _translated(network, image)
    found.reshape(list(image.shape))
    convolve_apart(found)
    assert "Concat" in read_by_convolutions(found)
    with torch.inference_mode():
        expected = network(image).numpy()
    np.testing.assert_allclose(compiled(found, image.shape, 1)([image.numpy()])[0], expected, rtol=1e-4, atol=1e-5)
