"""Random networks whose labels look like anatomy: compact regions, and every class with its share.

The time of a network does not depend on its weights, but the time of the export depends on the labels: it is short for
voxels whose corners agree. Free random weights give noise, in which no corners agree. So the kernels that shape the
regions are smooth, the fine scales are faint, and the last layer is shifted until every class has its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from random_model import RandomModel
from scipy.ndimage import zoom
from torch import Tensor, nn

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.models.network.networks import build_network
from napari_nnunet_cpu.predict.passes.accumulate import gaussian_window
from napari_nnunet_cpu.predict.tiles.grid import Grid

_SKIP = 0.1  # weight of a skip connection relative to the features from below, for every doubling of the voxels
_BEND = 0.3  # spread of the biases after a normalization, which place the bend of the nonlinearity
_STRAIGHT = 2.0  # mean of these biases in the decoder: most voxels lie above the bend, so layers do not fold regions
_BACKGROUND = 0.6  # share of label 0; the other classes share the rest equally
_SPREAD = 3.0  # standard deviation of the logits
_SAMPLES = 40_000  # number of voxels in which the shares are counted
_ROUNDS = 200


def anatomical_weights(model: RandomModel, case: Case, seed: int) -> dict[str, Tensor]:
    """A state dict with which the background wins most voxels of an image, and the other classes equally many.

    The network is a U-Net of plain convolutions with one input channel.
    """
    architecture, heads = model.network_architecture, model.heads
    generator = torch.Generator().manual_seed(seed)
    network = build_network(architecture, model.input_channels, heads)
    with torch.inference_mode():
        for name, parameter in network.named_parameters():
            parameter.copy_(_drawn(name, parameter, generator))
        for level in range(architecture.n_stages - 1):
            joined = network.get_parameter(f"decoder.stages.{level}.convs.0.conv.weight")
            joined[:, joined.shape[1] // 2 :] *= _SKIP ** (level + 1)
        logits = _blended_logits(network, _normalized(model, case), model.patch, heads, generator)
        scale = _SPREAD / logits.std(1)
        scale[0] = 0  # a flat logit: the background wins if no class stands out
        last = f"decoder.seg_layers.{architecture.n_stages - 2}"
        weight, bias = network.get_parameter(f"{last}.weight"), network.get_parameter(f"{last}.bias")
        weight.mul_(scale.view(-1, *[1] * (weight.ndim - 1)))
        bias.sub_(logits.mean(1)).mul_(scale)
        shares = np.full(heads, (1 - _BACKGROUND) / (heads - 1))
        shares[0] = _BACKGROUND
        standard = (logits - logits.mean(1, keepdim=True)) * scale[:, None]
        bias.add_(torch.from_numpy(shift_to(shares, standard.numpy())))
    return network.state_dict()


def shift_to(shares: npt.NDArray[np.float64], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The number to add to each head's logits so that the head wins about its share of the voxels.

    `shares` has the shape (heads,) and the sum 1; `logits` has the shape (heads, voxels).
    """
    heads, voxels = logits.shape
    shift = best = np.zeros(heads, dtype=np.float32)
    poorest = -1.0
    for step in np.geomspace(0.3, 0.01, _ROUNDS) * logits.std():
        reached = np.bincount((logits + shift[:, None]).argmax(0), minlength=heads) / voxels / shares
        if reached.min() > poorest:
            poorest, best = float(reached.min()), shift
        # The logarithm corrects a head that wins nothing at the same speed, however small its share.
        shift = shift - (step * np.clip(np.log(reached + 1e-3), -1, 1)).astype(np.float32)
    return best


def _normalized(model: RandomModel, case: Case) -> npt.NDArray[np.float32]:
    """The image (Z, Y, X) roughly as the network sees it: normalized, at the model's spacing."""
    spacing_mm = (*case.spacing_mm[: 3 - len(model.patch)], *model.spacing)
    image = case.channels[0].astype(np.float32)
    image = (image - image.mean()) / image.std()
    factors = [old / new for old, new in zip(case.spacing_mm, spacing_mm, strict=True)]
    normalized: npt.NDArray[np.float32] = zoom(image, factors, order=1)
    return normalized


def _blended_logits(
    network: nn.Module, image: npt.NDArray[np.float32], patch: Sequence[int], heads: int, generator: torch.Generator
) -> Tensor:
    """Logits (heads, voxels) in random voxels of a whole run, because a single tile disagrees with its neighbours."""
    z, y, x = image.shape
    grid = Grid.for_image((z, y, x), patch, 0.5)
    window = gaussian_window(grid.patch)
    padded = np.zeros(grid.padded, dtype=np.float32)
    padded[grid.inside.slices] = image
    voxels = torch.randint(z * y * x, (_SAMPLES,), generator=generator).numpy()
    places = [found + before for found, before in zip(np.unravel_index(voxels, image.shape), grid.before, strict=True)]
    total, weights = np.zeros((heads, _SAMPLES), dtype=np.float32), np.zeros(_SAMPLES, dtype=np.float32)
    for tile in grid.tiles():
        inner = [place - start for place, start in zip(places, tile.start, strict=True)]
        seen = np.all([(place >= 0) & (place < n) for place, n in zip(inner, tile.size, strict=True)], axis=0)
        at = tuple(place[seen] for place in inner)
        logits = network(torch.from_numpy(padded[tile.box.slices].reshape(1, 1, *patch))).numpy()
        total[:, seen] += logits.reshape(heads, *tile.size)[:, *at] * window[at]
        weights[seen] += window[at]
    return torch.from_numpy(total / weights)


def _drawn(name: str, parameter: nn.Parameter, generator: torch.Generator) -> Tensor:
    """Random values for a parameter; a layer's kernels are a random mix of channels with one smooth shape.

    The deeper stages of the encoder have free kernels. Smooth kernels would make all their channels alike, and
    normalizing the small differences would enlarge the rounding errors of both programs.
    """
    if parameter.ndim > 1:
        if name.startswith("encoder") and not name.startswith("encoder.stages.0."):
            free: Tensor = torch.randn(parameter.shape, generator=generator) * (2 / parameter[0].numel()) ** 0.5
            return free
        mix = torch.randn(parameter.shape[:2], generator=generator)
        kernel = _kernel(parameter.shape[2:], uniform="transpconvs" in name)
        inputs = parameter.shape[0 if "transpconvs" in name else 1]
        weights: Tensor = mix.view(*mix.shape, *[1] * kernel.ndim) * kernel * (2 / inputs) ** 0.5
        return weights
    if name.endswith("norm.weight"):
        return torch.ones_like(parameter)
    center = _STRAIGHT if "decoder.stages" in name and "norm" in name else 0.0
    return torch.randn(parameter.shape, generator=generator) * _BEND + center


def _kernel(shape: Sequence[int], uniform: bool) -> Tensor:
    """A blur that sums to one; all ones for a transposed convolution, because a blur would draw a chequerboard."""
    if uniform:
        return torch.ones(tuple(shape))
    axes = [torch.tensor([0.25, 0.5, 0.25]) if length == 3 else torch.ones(length) / length for length in shape]
    return reduce(lambda outer, axis: outer[..., None] * axis, axes)
