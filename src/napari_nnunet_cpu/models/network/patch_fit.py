"""Which patches fit a network, known from its plans alone.

A forward pass on torch's "meta" device would tell the same. But it takes seconds to import, and many for a network
that a hostile plan describes.
"""

from __future__ import annotations

import math

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.models.network.primus import TOKEN, Primus

# A patch of 320 voxels along each axis; limited, because tables of the tokens are made before the weights are checked.
_MAX_TOKENS = 40**3


def check_patch(network: Architecture | Primus, patch: tuple[int, ...], where: str) -> None:
    """Raise `ModelError` if the logits of a patch of this size would have another size."""
    if isinstance(network, Primus):
        _check_tokens(network, patch, where)
        return
    lengths = [_feature_lengths(network, length, axis) for axis, length in enumerate(patch)]
    for axis, found in enumerate(lengths):
        if not found or found[-1] != patch[axis]:
            raise ModelError(
                f"{where}: patch_size {patch} does not fit the network along axis {axis}: "
                f"its strides are {list(network.strides)} and its kernel sizes {list(network.kernel_sizes)}"
            )
    one_voxel = any(math.prod(shape) == 1 for shape in zip(*filter(None, lengths), strict=True))
    if one_voxel and str(network.norm_op).startswith("InstanceNorm") and not network.norm_op_kwargs.track_running_stats:
        raise ModelError(f"{where}: patch_size {patch} does not fit the network: it leaves one voxel to normalize")


def _check_tokens(primus: Primus, patch: tuple[int, ...], where: str) -> None:
    """Raise `ModelError` if a patch does not consist of whole tokens, or has too many."""
    if len(patch) != 3 or any(length % TOKEN for length in patch):
        raise ModelError(
            f"{where}: patch_size {patch} does not fit {primus.family}: it needs three multiples of {TOKEN}"
        )
    tokens = math.prod(length // TOKEN for length in patch)
    if tokens == 1 and primus.family.startswith("PrimusV"):  # because these have convolutions
        raise ModelError(f"{where}: patch_size {patch} does not fit {primus.family}: it leaves one voxel to normalize")
    if tokens > _MAX_TOKENS:
        raise ModelError(f"{where}: patch_size {patch} gives {primus.family} {tokens} tokens, more than {_MAX_TOKENS}")


def _feature_lengths(architecture: Architecture, length: int, axis: int) -> list[int] | None:
    """Voxels of a patch of this length along an axis, after every stage down to the bottleneck and up again.

    A convolution is padded by (kernel - 1) // 2. So an odd kernel keeps the length, and an even kernel shortens it by
    one voxel. The last length is that of the logits. None if two joined branches differ, or no voxel is left.
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
