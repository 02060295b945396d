"""How long the feature maps of a U-Net are: every axis for itself, stage by stage.

A convolution is padded by (kernel - 1) // 2. With an odd kernel it keeps the length, with an even
one it takes a voxel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_nnunet_cpu.models.network.architecture import Architecture


def feature_lengths(architecture: Architecture, length: int, axis: int) -> list[int] | None:
    """Voxels along an axis after every stage.

    Parameters
    ----------
    architecture : Architecture
        Of the network.
    length, axis : int
        Of the patch.

    Returns
    -------
    list of int or None
        Down to the bottleneck and up again, so that the logits' length is the last. None where two branches
        that are joined differ in length, or nothing is left.
    """
    strides = [_along(stride, axis) for stride in architecture.strides]
    taken = [1 - _along(kernel, axis) % 2 for kernel in architecture.kernel_sizes]
    down = _down(architecture, length, strides, taken)
    up = _up(architecture, down, strides, taken) if down else None
    return down + up if down and up else None


def _down(architecture: Architecture, length: int, strides: list[int], taken: list[int]) -> list[int] | None:
    plain, in_a_block = architecture.family == "PlainConvUNet", 2 if architecture.block == "BasicBlockD" else 1
    if not plain:
        length -= taken[0]  # the stem
    lengths = []
    for stride, take, count in zip(strides, taken, architecture.n_per_stage, strict=True):
        pooled = length // stride  # what a residual block has on its other branch
        convolutions = count if plain else count * in_a_block
        length = (length - 1 - take) // stride + 1 - take * (convolutions - 1)
        if length < 1 or (not plain and length != pooled):
            return None
        lengths.append(length)
    return lengths


def _up(architecture: Architecture, down: list[int], strides: list[int], taken: list[int]) -> list[int] | None:
    length, lengths = down[-1], []
    for i, count in zip(reversed(range(len(down) - 1)), architecture.n_conv_per_stage_decoder, strict=True):
        if length * strides[i + 1] != down[i] or (taken[i] and architecture.family == "ResidualUNet"):
            return None
        length = down[i] - taken[i] * count
        if length < 1:
            return None
        lengths.append(length)
    return lengths


def _along(per_axis: int | tuple[int, ...], axis: int) -> int:
    return per_axis[axis] if isinstance(per_axis, tuple) else per_axis
