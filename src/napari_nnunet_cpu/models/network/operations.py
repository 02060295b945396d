"""Count the work of a pass through a U-Net: weights, multiplications and values of every layer, without building it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from napari_nnunet_cpu.models.network.architecture import Architecture, PerAxis


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution of a network."""

    weights: int  # without biases
    multiplications: int  # of a pass, each with an addition
    values: int  # of its output: channels times voxels


def layers(architecture: Architecture, channels: int, heads: int, patch: Sequence[int]) -> Iterator[Layer]:
    """The convolutions of a network for a patch of this size, from its input to its heads.

    Even kernels shorten a patch by a voxel, which is left out.
    """
    a, voxels = architecture, prod(patch)
    plain = a.family == "PlainConvUNet"
    inputs, sizes = channels, []
    if not plain:
        stem = a.stem_channels or a.features_per_stage[0]
        yield _convolution(_volume(a.kernel_sizes[0], a), inputs, stem, voxels)
        inputs = stem
    for stage, (features, count) in enumerate(zip(a.features_per_stage, a.n_per_stage, strict=True)):
        voxels //= _volume(a.strides[stage], a)
        sizes.append(voxels)
        for _ in range(count):
            yield from _block(a, stage, inputs, features, voxels, plain)
            inputs = features
    for stage, count in zip(reversed(range(len(sizes) - 1)), a.n_conv_per_stage_decoder, strict=True):
        features, voxels = a.features_per_stage[stage], sizes[stage]
        # Every voxel of a transposed convolution is made of one voxel below it, because kernel and stride are equal.
        taps = _volume(a.strides[stage + 1], a)
        yield Layer(taps * inputs * features, inputs * features * voxels, features * voxels)
        inputs = 2 * features
        for _ in range(count):
            yield from _block(a, stage, inputs, features, voxels, a.family != "ResidualUNet")
            inputs = features
    yield _convolution(1, inputs, heads, voxels)


def _block(a: Architecture, stage: int, inputs: int, outputs: int, voxels: int, plain: bool) -> Iterator[Layer]:
    """A convolution, or the convolutions of a residual block."""
    kernel = _volume(a.kernel_sizes[stage], a)
    if plain:
        yield _convolution(kernel, inputs, outputs, voxels)
        return
    middle = None if a.block == "BasicBlockD" or a.bottleneck_channels is None else a.bottleneck_channels[stage]
    if middle is None:
        yield _convolution(kernel, inputs, outputs, voxels)
        yield _convolution(kernel, outputs, outputs, voxels)
    else:
        yield _convolution(1, inputs, middle, voxels)
        yield _convolution(kernel, middle, middle, voxels)
        yield _convolution(1, middle, outputs, voxels)
    if inputs != outputs:
        yield _convolution(1, inputs, outputs, voxels)  # the shortcut


def _convolution(kernel: int, inputs: int, outputs: int, voxels: int) -> Layer:
    return Layer(kernel * inputs * outputs, kernel * inputs * outputs * voxels, outputs * voxels)


def _volume(per_axis: PerAxis, architecture: Architecture) -> int:
    return prod(per_axis) if isinstance(per_axis, tuple) else per_axis**architecture.dimensions
