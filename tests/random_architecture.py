"""Draws small U-Nets with a patch for each, many of which do not fit together."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_BLOCK = "dynamic_network_architectures.building_blocks.residual"


@st.composite
def architectures(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[int, int]]:
    """The plans' "architecture" block, two-dimensional, and a patch_size."""
    stages = draw(st.integers(2, 4))
    mostly_odd = st.sampled_from([3] * 12 + [1, 1, 5, 2, 4])
    per_axis = st.tuples(mostly_odd, mostly_odd)
    strides = st.tuples(*[st.sampled_from([1, 2, 2, 2, 3])] * 2)
    counts = st.lists(st.integers(1, 2), min_size=stages, max_size=stages)
    family = draw(st.sampled_from(["PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"]))
    kwargs: dict[str, Any] = {
        "n_stages": stages,
        "features_per_stage": [1] * stages,
        "conv_op": "torch.nn.Conv2d",
        "kernel_sizes": draw(st.lists(per_axis, min_size=stages, max_size=stages)),
        "strides": [(1, 1) if draw(st.integers(0, 9)) else draw(strides)]
        + draw(st.lists(strides, min_size=stages - 1, max_size=stages - 1)),
        "n_conv_per_stage" if family == "PlainConvUNet" else "n_blocks_per_stage": draw(counts),
        "n_conv_per_stage_decoder": draw(counts)[1:],
        "norm_op": draw(st.sampled_from([None, "torch.nn.InstanceNorm2d", "torch.nn.BatchNorm2d"])),
        "nonlin": draw(st.sampled_from([None, "torch.nn.LeakyReLU"])),
        "dropout_op": None,
    }
    if family != "PlainConvUNet" and draw(st.booleans()):
        kwargs |= {"block": f"{_BLOCK}.BottleneckD", "bottleneck_channels": 1}
    # Half of the patches are what a planner would choose.
    patch = []
    for axis in range(2):
        multiple = 1
        for per_stage in kwargs["strides"]:
            multiple *= per_stage[axis]
        patch.append(draw(st.integers(1, 24) | st.integers(1, 2).map(multiple.__mul__)))
    block = {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{family}",
        "arch_kwargs": kwargs,
        "_kw_requires_import": ["conv_op", "norm_op", "nonlin", "dropout_op"] + ["block"] * ("block" in kwargs),
    }
    return block, (patch[0], patch[1])
