"""The U-Nets of nnU-Net, built with its parameter names so that its checkpoints load strictly.

They reproduce the state dict and the inference of `PlainConvUNet`, `ResidualEncoderUNet` and
`ResidualUNet` in dynamic-network-architectures 0.4.4, which equal those of 0.2 and 0.3. Attribute
names are part of the file format: a layer is registered under its role (`conv`, `norm`) and again in
`all_modules`, the decoder contains the encoder, and segmentation heads exist at every resolution,
although only the last one is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.models.network.head_layer import HeadLayer
from napari_nnunet_cpu.models.network.primus import Primus, build_primus


def build_network(architecture: Architecture | Primus, channels: int, heads: int) -> nn.Module:
    """Build a network in evaluation mode, with arbitrary weights.

    It maps (N, channels, *patch) to logits (N, heads, *patch). Raises `ModelError` if a package that it needs is
    missing.
    """
    if isinstance(architecture, Primus):
        return build_primus(architecture, channels, heads).eval()
    return UNet(Layers(architecture), channels, heads).eval()


class Layers:
    """Makes the layers of an architecture: their classes and options, independent of the number of features."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.dimensions = architecture.dimensions
        self.conv_class: type[nn.Module] = getattr(nn, architecture.conv_op)
        self.transposed_class: type[nn.Module] = getattr(nn, f"ConvTranspose{self.dimensions}d")
        self.pool_class: type[nn.Module] = getattr(nn, f"AvgPool{self.dimensions}d")

    def per_axis(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        """The value for every axis."""
        return value if isinstance(value, tuple) else (value,) * self.dimensions

    def norm(self, features: int) -> nn.Module | None:
        """The normalization after a convolution, if there is one."""
        if self.architecture.norm_op is None:
            return None
        options = self.architecture.norm_op_kwargs.model_dump(exclude_none=True)
        layer: nn.Module = getattr(nn, self.architecture.norm_op)(features, **options)
        return layer

    def nonlin(self) -> nn.Module | None:
        """The nonlinearity, if there is one."""
        options = self.architecture.nonlin_kwargs
        if self.architecture.nonlin == "LeakyReLU":
            return nn.LeakyReLU(options.negative_slope, options.inplace)
        return nn.ReLU(options.inplace) if self.architecture.nonlin == "ReLU" else None


class ConvBlock(nn.Module):
    """Convolution, dropout (without effect at inference, but part of the state dict), normalization, nonlinearity."""

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, kernel: Any, stride: Any, *,
        bias: bool | None = None, dropout: bool = True, nonlin: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        architecture = layers.architecture
        kernel = layers.per_axis(kernel)
        self.conv = layers.conv_class(
            inputs, outputs, kernel, layers.per_axis(stride),
            padding=tuple((length - 1) // 2 for length in kernel),
            bias=architecture.conv_bias if bias is None else bias,
        )  # fmt: skip
        modules = [self.conv]
        if dropout and architecture.has_dropout:
            self.dropout = nn.Identity()
            modules.append(self.dropout)
        norm = layers.norm(outputs)
        if norm is not None:
            self.norm = norm
            modules.append(norm)
        activation = layers.nonlin() if nonlin else None
        if activation is not None:
            self.nonlin = activation
            modules.append(activation)
        if architecture.nonlin_first and norm is not None and activation is not None:
            modules[-1], modules[-2] = modules[-2], modules[-1]
        self.all_modules = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.all_modules(x)
        return y


class ConvStack(nn.Module):
    """A sequence of convolution blocks; the first one has the stride."""

    def __init__(self, layers: Layers, count: int, inputs: int, outputs: int, kernel: Any, stride: Any) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvBlock(layers, inputs, outputs, kernel, stride),
            *[ConvBlock(layers, outputs, outputs, kernel, 1) for _ in range(count - 1)],
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convs(x)
        return y


class ResidualBlock(nn.Module):
    """BasicBlockD, or BottleneckD when `bottleneck` is given: ResNet-D (He et al. 2019, arXiv:1812.01187)."""

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, kernel: Any, stride: Any, bottleneck: int | None
    ) -> None:
        super().__init__()
        if bottleneck is None:
            self.conv1 = ConvBlock(layers, inputs, outputs, kernel, stride)
            self.conv2 = ConvBlock(layers, outputs, outputs, kernel, 1, dropout=False, nonlin=False)
            self.path: tuple[str, ...] = ("conv1", "conv2")
        else:
            self.conv1 = ConvBlock(layers, inputs, bottleneck, 1, 1, dropout=False)
            self.conv2 = ConvBlock(layers, bottleneck, bottleneck, kernel, stride)
            self.conv3 = ConvBlock(layers, bottleneck, outputs, 1, 1, dropout=False, nonlin=False)
            self.path = ("conv1", "conv2", "conv3")
        self.last_nonlin = layers.nonlin() or nn.Identity()
        skip: list[nn.Module] = []
        stride = layers.per_axis(stride)
        if any(step != 1 for step in stride):
            skip.append(layers.pool_class(stride, stride))
        if inputs != outputs:
            skip.append(ConvBlock(layers, inputs, outputs, 1, 1, bias=False, dropout=False, nonlin=False))
        self.skip = nn.Sequential(*skip)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.skip(x)
        for name in self.path:
            x = getattr(self, name)(x)
        x += residual  # in place, because different sizes must be an error as in the original, and not broadcast
        y: Tensor = self.last_nonlin(x)
        return y


class ResidualStack(nn.Module):
    """A sequence of residual blocks; the first one has the stride."""

    def __init__(
        self, layers: Layers, count: int, inputs: int, outputs: int, kernel: Any, stride: Any, bottleneck: int | None
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            ResidualBlock(layers, inputs, outputs, kernel, stride, bottleneck),
            *[ResidualBlock(layers, outputs, outputs, kernel, 1, bottleneck) for _ in range(count - 1)],
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(x)
        return y


class Encoder(nn.Module):
    """Stages from full resolution to the bottleneck; the output of each is a skip connection."""

    def __init__(self, layers: Layers, channels: int) -> None:
        super().__init__()
        a = layers.architecture
        residual = a.family != "PlainConvUNet"
        if residual:
            stem = a.stem_channels or a.features_per_stage[0]
            self.stem = ConvStack(layers, 1, channels, stem, a.kernel_sizes[0], 1)
            channels = stem
        stages: list[nn.Module] = []
        for i, features in enumerate(a.features_per_stage):
            shape = (a.n_per_stage[i], channels, features, a.kernel_sizes[i], a.strides[i])
            if residual:
                bottleneck = a.bottleneck_channels[i] if a.block == "BottleneckD" and a.bottleneck_channels else None
                stages.append(ResidualStack(layers, *shape, bottleneck))
            else:
                stages.append(nn.Sequential(ConvStack(layers, *shape)))
            channels = features
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        if hasattr(self, "stem"):
            x = self.stem(x)
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class Decoder(nn.Module):
    """Stages from the bottleneck back to full resolution; each joins its skip connection."""

    def __init__(self, layers: Layers, encoder: Encoder, heads: int) -> None:
        super().__init__()
        a = layers.architecture
        self.encoder = encoder
        stages: list[nn.Module] = []
        transposed, segmentations = [], []
        for i in range(a.n_stages - 2, -1, -1):  # the encoder stage of the same resolution
            below, features = a.features_per_stage[i + 1], a.features_per_stage[i]
            stride = layers.per_axis(a.strides[i + 1])
            transposed.append(layers.transposed_class(below, features, stride, stride, bias=a.conv_bias))
            shape = (a.n_conv_per_stage_decoder[a.n_stages - 2 - i], 2 * features, features, a.kernel_sizes[i], 1)
            residual = a.family == "ResidualUNet"  # with BasicBlockD, whatever the blocks of the encoder
            stages.append(ResidualStack(layers, *shape, None) if residual else ConvStack(layers, *shape))
            segmentations.append(layers.conv_class(features, heads, 1, 1, 0, bias=True))
        self.stages = nn.ModuleList(stages)
        self.transpconvs = nn.ModuleList(transposed)
        self.seg_layers = nn.ModuleList(segmentations)

    def forward(self, skips: list[Tensor]) -> Tensor:
        x = skips[-1]
        for stage, transposed, skip in zip(self.stages, self.transpconvs, reversed(skips[:-1]), strict=True):
            x = stage(torch.cat((transposed(x), skip), dim=1))
        y: Tensor = self.seg_layers[-1](x)
        return y

    def pop_last_layer(self) -> HeadLayer:
        """Remove the last layer, so that the network returns features, and return the layer."""
        weights, bias = (array.detach().cpu().numpy() for array in self.seg_layers[-1].parameters())
        self.seg_layers[-1] = nn.Identity()
        return HeadLayer.of(weights, bias)


class UNet(nn.Module):
    """Encoder and decoder."""

    def __init__(self, layers: Layers, channels: int, heads: int) -> None:
        super().__init__()
        self.encoder = Encoder(layers, channels)
        self.decoder = Decoder(layers, self.encoder, heads)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.decoder(self.encoder(x))
        return y
