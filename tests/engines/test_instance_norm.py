"""Normalization in OpenVINO against torch in 64 bits, where most voxels are nearly the same."""

import numpy as np
import pytest
import torch

from napari_nnunet_cpu.engines.openvino.compiled import compiled
from napari_nnunet_cpu.engines.openvino.conversion import _translated
from napari_nnunet_cpu.engines.openvino.instance_norm import normalize_exactly
from napari_nnunet_cpu.engines.openvino.library import load_openvino


class Network(torch.nn.Sequential):
    """A convolution, which makes openvino lay the channels out as in a network, and a normalization."""

    def __init__(self, dimensions: int) -> None:
        convolution = (torch.nn.Conv2d, torch.nn.Conv3d)[dimensions - 2](1, 16, 3, padding=1)
        norm = (torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d)[dimensions - 2](16, affine=True)
        super().__init__(convolution, norm, torch.nn.LeakyReLU())
        torch.manual_seed(0)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter)


def air(shape: tuple[int, ...]) -> torch.Tensor:
    """A body in air with a little noise."""
    rng = np.random.default_rng(0)
    image = np.full(shape, -1.4) + 1e-4 * rng.normal(size=shape)
    body = image[..., : shape[-1] // 3]
    body[...] = rng.normal(size=body.shape)
    return torch.from_numpy(image[None, None])


def largest_error(network: torch.nn.Module, image: torch.Tensor, exactly: bool) -> float:
    with torch.inference_mode():
        expected = network.double()(image).numpy()
    found = _translated(network.float(), image.float())
    if exactly:
        ready = compiled(found, image.shape, 1)
    else:
        ready = load_openvino().compile_model(found, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return float(np.abs(ready([image.float().numpy()])[0] - expected).max())


@pytest.mark.parametrize("shape", [(48, 64, 64), (512, 512)])
def test_it_is_exact(shape: tuple[int, ...]) -> None:
    network, image = Network(len(shape)).eval(), air(shape)
    ours = largest_error(network, image, exactly=True)
    assert ours < 3e-5  # of values whose deviation is 1
    assert ours < largest_error(network, image, exactly=False) / 10, "openvino's own has become exact: leave it alone"


@pytest.mark.parametrize("value", [0.0, 1.0, -300.0])
def test_a_constant_channel_becomes_its_bias(value: float) -> None:
    network = torch.nn.InstanceNorm3d(2, affine=True).eval()
    with torch.no_grad():
        network.bias.copy_(torch.tensor([0.5, -2.0]))
    image = torch.full((1, 2, 8, 9, 10), value)
    found = compiled(_translated(network, image), image.shape, 1)([image.numpy()])[0]
    np.testing.assert_allclose(found[0, 0], 0.5, atol=1e-3 * abs(value))
    np.testing.assert_allclose(found[0, 1], -2.0, atol=1e-3 * abs(value))


def test_other_normalizations_stay() -> None:
    network = torch.nn.LayerNorm(8).eval()
    example = torch.randn(1, 3, 5, 8)
    found = _translated(network, example)
    found.reshape(list(example.shape))
    normalize_exactly(found)
    assert "MVN" in [node.get_type_name() for node in found.get_ordered_ops()]
