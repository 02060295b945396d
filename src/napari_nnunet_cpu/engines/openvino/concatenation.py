"""Avoid concatenations before convolutions in OpenVINO networks.

The decoder of a U-Net concatenates its features with those of the encoder, and a convolution reads both. OpenVINO
copies both for this, at the resolution of the image, where they are large. The sum of one convolution for each part
is the same without a copy, because the second convolution adds to the output of the first.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import openvino


def convolve_apart(network: openvino.Model) -> None:
    """Replace every float32 convolution of concatenated channels by a sum of convolutions, in place.

    The network must have a fixed shape.
    """
    for node in network.get_ordered_ops():
        if node.get_type_name() != "Convolution":
            continue
        concatenation, weights = (value.get_node() for value in node.input_values())
        joins_channels = concatenation.get_type_name() == "Concat" and concatenation.get_attributes()["axis"] == 1
        if joins_channels and weights.get_type_name() == "Constant":
            total = _sum(node, concatenation.input_values(), weights.data)
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(total)
    network.validate_nodes_and_infer_types()


def _sum(node: openvino.Node, parts: list[openvino.Output], weights: npt.NDArray[np.float32]) -> openvino.Output:
    """The sum of the convolutions of all parts, each with its slice of the weights."""
    from openvino import opset13 as ops

    attributes = node.get_attributes()
    options = [attributes[name] for name in ("strides", "pads_begin", "pads_end", "dilations", "auto_pad")]
    ends = np.cumsum([part.shape[1] for part in parts])
    convolved = [
        ops.convolution(part, ops.constant(np.ascontiguousarray(part_weights)), *options)
        for part, part_weights in zip(parts, np.split(weights, ends[:-1], axis=1), strict=True)
    ]
    return reduce(ops.add, convolved).output(0)
