"""The description of a network in the plans, checked against the networks that we can build.

Source: nnU-Net `utilities/get_network_from_plans.py` and `plans_handler.py` (conversion of
plans before 2.3.1). Dotted names are looked up in the tables below and never imported.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.documents import Strict, parse

Family = Literal["PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"]
Features = Annotated[int, Field(ge=1, le=8192)]
Count = Annotated[int, Field(ge=1, le=64)]
Length = Annotated[int, Field(ge=1, le=31)]
PerAxis = Length | Annotated[tuple[Length, ...], Field(min_length=2, max_length=3)]
PerStage = Annotated[tuple[PerAxis, ...], Field(min_length=1, max_length=16)]

_FAMILIES = {
    f"dynamic_network_architectures.architectures.{module}.{name}": name
    for module, name in (
        ("unet", "PlainConvUNet"),
        ("unet", "ResidualEncoderUNet"),
        ("unet", "ResidualUNet"),
        # their module in plans written by nnunetv2 2.3, or converted by 2.3 to 2.8
        ("residual_unet", "ResidualEncoderUNet"),
        ("residual_unet", "ResidualUNet"),
    )
}
_BLOCKS = {
    f"dynamic_network_architectures.building_blocks.residual.{name}": name for name in ("BasicBlockD", "BottleneckD")
}
# Arguments of every family, besides convolutions or blocks per stage, and those of plain or residual families alone.
_ARGUMENTS = frozenset(
    ["n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_conv_per_stage_decoder", "conv_bias"]
    + ["norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin", "nonlin_kwargs", "deep_supervision"]
)
_PLAIN_ARGUMENTS = frozenset(["nonlin_first"])
_RESIDUAL_ARGUMENTS = frozenset(["block", "bottleneck_channels", "stem_channels"])


def _torch_names(module: str, *names: str) -> dict[str, str]:
    """Short names by both dotted names of a torch class."""
    return {f"torch.nn.{middle}{name}": name for name in names for middle in ("", f"modules.{module}.")}


_CONVOLUTIONS = _torch_names("conv", "Conv2d", "Conv3d")
_NORMS = _torch_names("instancenorm", "InstanceNorm2d", "InstanceNorm3d") | _torch_names(
    "batchnorm", "BatchNorm2d", "BatchNorm3d"
)
_DROPOUTS = _torch_names("dropout", "Dropout", "Dropout2d", "Dropout3d")
_NONLINEARITIES = _torch_names("activation", "LeakyReLU", "ReLU")


class NormOptions(Strict):
    """Keyword arguments of a normalization layer."""

    eps: Annotated[float, Field(gt=0)] = 1e-5
    affine: bool | None = None
    momentum: float = 0.1
    track_running_stats: bool | None = None


class NonlinOptions(Strict):
    """Keyword arguments of a nonlinearity."""

    negative_slope: float = 0.01
    inplace: bool = False


class Architecture(Strict):
    """A complete description of a U-Net of nnU-Net.

    Every list per stage runs from full resolution to the bottleneck. Kernel sizes and
    strides are one number, or one per axis.
    """

    family: Family
    n_stages: Annotated[int, Field(ge=2, le=16)]
    features_per_stage: tuple[Features, ...]
    conv_op: Literal["Conv2d", "Conv3d"]
    kernel_sizes: PerStage
    strides: PerStage
    n_per_stage: tuple[Count, ...]
    n_conv_per_stage_decoder: tuple[Count, ...]
    conv_bias: bool = False
    norm_op: Literal["InstanceNorm2d", "InstanceNorm3d", "BatchNorm2d", "BatchNorm3d"] | None = None
    norm_op_kwargs: NormOptions = NormOptions()
    has_dropout: bool = False
    nonlin: Literal["LeakyReLU", "ReLU"] | None = None
    nonlin_kwargs: NonlinOptions = NonlinOptions()
    nonlin_first: bool = False
    block: Literal["BasicBlockD", "BottleneckD"] = "BasicBlockD"
    bottleneck_channels: tuple[Features | None, ...] | None = None
    stem_channels: Features | None = None

    @property
    def dimensions(self) -> int:
        """Spatial axes of the convolutions: 2 or 3."""
        return 2 if self.conv_op == "Conv2d" else 3

    @property
    def blocks(self) -> int:
        """Convolutions, or blocks of them, in all stages: a lower bound for the number of weights."""
        return sum(self.n_per_stage) + sum(self.n_conv_per_stage_decoder)

    @property
    def reduction(self) -> tuple[int, ...]:
        """Downsampling factor at the bottleneck, along each axis."""
        strides = [s if isinstance(s, tuple) else (s,) * self.dimensions for s in self.strides]
        return tuple(math.prod(steps) for steps in zip(*strides, strict=True))

    def with_batch_norm(self) -> Architecture:
        """The same network with batch normalization, as nnUNetTrainerBN builds it."""
        norm = {"norm_op": f"BatchNorm{self.dimensions}d", "norm_op_kwargs": NormOptions(affine=True)}
        return self.model_copy(update=norm)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_plans(cls, document: Any) -> Any:
        """Convert the `architecture` block of the plans into the fields above."""
        if not isinstance(document, dict):
            return document
        family = _look_up(_FAMILIES, document.get("network_class_name"), "architecture")
        kwargs = document.get("arch_kwargs")
        if not isinstance(kwargs, dict):
            raise ValueError("arch_kwargs must be an object")
        fields, plain = dict(kwargs), family == "PlainConvUNet"
        per_stage = fields.pop("n_conv_per_stage" if plain else "n_blocks_per_stage", None)
        unknown = ", ".join(sorted(fields.keys() - _ARGUMENTS - (_PLAIN_ARGUMENTS if plain else _RESIDUAL_ARGUMENTS)))
        if unknown:  # refused, because it would change the network in an unknown way
            raise ValueError(f"arch_kwargs holds {unknown}, which {family} does not take")
        for name in ("norm_op_kwargs", "nonlin_kwargs"):
            fields[name] = fields.get(name) or {}
        stages = fields.get("n_stages")
        if type(stages) is not int or not 2 <= stages <= 16:
            raise ValueError(f"n_stages must be a number from 2 to 16, found {stages!r}")
        fields |= {
            "family": family,
            "conv_op": _look_up(_CONVOLUTIONS, fields.get("conv_op"), "conv_op"),
            "norm_op": _look_up(_NORMS, fields.get("norm_op"), "norm_op", optional=True),
            "nonlin": _look_up(_NONLINEARITIES, fields.get("nonlin"), "nonlin", optional=True),
            "has_dropout": _look_up(_DROPOUTS, fields.get("dropout_op"), "dropout_op", optional=True) is not None,
            "block": _look_up(_BLOCKS, fields.get("block") or next(iter(_BLOCKS)), "block"),
            "n_per_stage": _repeat(per_stage, stages),
            "n_conv_per_stage_decoder": _repeat(fields.get("n_conv_per_stage_decoder"), stages - 1),
            **{name: _repeat(fields.get(name), stages) for name in ("features_per_stage", "kernel_sizes", "strides")},
        }
        if fields.get("bottleneck_channels") is not None:
            fields["bottleneck_channels"] = _repeat(fields["bottleneck_channels"], stages)
        return fields

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Architecture:
        lengths = {
            "features_per_stage": (self.features_per_stage, self.n_stages),
            "kernel_sizes": (self.kernel_sizes, self.n_stages),
            "strides": (self.strides, self.n_stages),
            "convolutions or blocks per stage": (self.n_per_stage, self.n_stages),
            "n_conv_per_stage_decoder": (self.n_conv_per_stage_decoder, self.n_stages - 1),
        }
        for name, (value, length) in lengths.items():
            if len(value) != length:
                raise ValueError(f"{name} needs {length} entries for {self.n_stages} stages, found {len(value)}")
        for per_axis in (*self.kernel_sizes, *self.strides):
            if isinstance(per_axis, tuple) and len(per_axis) != self.dimensions:
                raise ValueError(f"kernel sizes and strides need {self.dimensions} entries, found {per_axis}")
        if self.norm_op is not None and not self.norm_op.endswith(f"{self.dimensions}d"):
            raise ValueError(f"{self.norm_op} does not fit {self.conv_op}")
        if self.block == "BottleneckD" and (
            self.bottleneck_channels is None
            or len(self.bottleneck_channels) != self.n_stages
            or None in self.bottleneck_channels
        ):
            raise ValueError("BottleneckD needs bottleneck_channels for every stage")
        return self


def architecture_of_old_plans(configuration: dict[str, Any], where: str) -> dict[str, Any]:
    """Derive the architecture block from a resolved configuration of plans before 2.3.1, which have none.

    Raises `ModelError` if a key such as UNet_class_name is missing or invalid; `where` is for the message.
    """
    old = parse(_OldConfiguration, configuration, where)
    stages = len(old.n_conv_per_stage_encoder)
    dimensions = len(old.patch_size)
    features = [min(old.UNet_base_num_features * 2**stage, old.unet_max_num_features) for stage in range(stages)]
    per_stage = "n_conv_per_stage" if old.UNet_class_name == "PlainConvUNet" else "n_blocks_per_stage"
    if dimensions not in (2, 3):
        raise ModelError(f"{where}: patch_size must have 2 or 3 entries, found {dimensions}")
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{old.UNet_class_name}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": features,
            "conv_op": f"torch.nn.Conv{dimensions}d",
            "kernel_sizes": old.conv_kernel_sizes,
            "strides": old.pool_op_kernel_sizes,
            per_stage: old.n_conv_per_stage_encoder,
            "n_conv_per_stage_decoder": old.n_conv_per_stage_decoder,
            "conv_bias": True,
            "norm_op": f"torch.nn.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    }


class _OldConfiguration(Strict):
    UNet_class_name: Literal["PlainConvUNet", "ResidualEncoderUNet"]
    UNet_base_num_features: Features
    unet_max_num_features: Features
    n_conv_per_stage_encoder: Annotated[list[Count], Field(min_length=2, max_length=16)]
    n_conv_per_stage_decoder: list[Count]
    conv_kernel_sizes: list[Any]
    pool_op_kernel_sizes: list[Any]
    patch_size: list[int]


def _look_up(table: dict[str, str], name: Any, what: str, optional: bool = False) -> str | None:
    if name is None and optional:
        return None
    if not isinstance(name, str) or name not in table:
        known = ", ".join(sorted(set(table.values())))
        raise ValueError(f"{what} {name!r} is not supported; supported are {known}")
    return table[name]


def _repeat(value: Any, length: int) -> Any:
    """Repeat a single number for every stage, as nnU-Net does."""
    return [value] * length if isinstance(value, int) else value
