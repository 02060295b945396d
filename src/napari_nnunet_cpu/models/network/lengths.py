"""The lengths of the feature maps of a U-Net, for each axis and stage.

A convolution is padded by (kernel - 1) // 2. So an odd kernel keeps the length, and an even kernel
shortens it by one voxel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_nnunet_cpu.models.network.architecture import Architecture


def feature_lengths(architecture: Architecture, length: int, axis: int) -> list[int] | None:
    """Voxels of a patch of this length along an axis, after every stage down to the bottleneck and up again.

    The last is the length of the logits. None if two joined branches differ in length, or no voxel is left.
    """
    strides = [_along(stride, axis) for stride in architecture.strides]
    lost = [1 - _along(kernel, axis) % 2 for kernel in architecture.kernel_sizes]
    down = _down(architecture, length, strides, lost)
    up = _up(architecture, down, strides, lost) if down else None
    return down + up if down and up else None


def _down(architecture: Architecture, length: int, strides: list[int], lost: list[int]) -> list[int] | None:
    plain, per_block = architecture.family == "PlainConvUNet", 2 if architecture.block == "BasicBlockD" else 1
    if not plain:
        length -= lost[0]  # the stem
    lengths = []
    for stride, loss, count in zip(strides, lost, architecture.n_per_stage, strict=True):
        pooled = length // stride  # the other branch of a residual block
        convolutions = count if plain else count * per_block
        length = (length - 1 - loss) // stride + 1 - loss * (convolutions - 1)
        if length < 1 or (not plain and length != pooled):
            return None
        lengths.append(length)
    return lengths


def _up(architecture: Architecture, down: list[int], strides: list[int], lost: list[int]) -> list[int] | None:
    length, lengths = down[-1], []
    for i, count in zip(reversed(range(len(down) - 1)), architecture.n_conv_per_stage_decoder, strict=True):
        if length * strides[i + 1] != down[i] or (lost[i] and architecture.family == "ResidualUNet"):
            return None
        length = down[i] - lost[i] * count
        if length < 1:
            return None
        lengths.append(length)
    return lengths


def _along(per_axis: int | tuple[int, ...], axis: int) -> int:
    return per_axis[axis] if isinstance(per_axis, tuple) else per_axis
