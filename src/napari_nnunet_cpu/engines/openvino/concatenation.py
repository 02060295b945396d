"""Convolutions of concatenated feature maps in OpenVINO, without making the concatenation.

The decoder of a U-Net puts the maps that come from below beside those of the encoder, and a convolution reads them
all. OpenVINO copies both to do so, at the resolution of the image, where memory is short. The sum of a convolution of
each is the same, and the second one adds to what the first one gave.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import openvino


def convolve_apart(network: openvino.Model) -> None:
    """Replace every float32 convolution of concatenated channels by the sum of one for each part, in place.

    Parameters
    ----------
    network : openvino.Model
        Its shapes must be known and stay.
    """
    for node in network.get_ordered_ops():
        if node.get_type_name() != "Convolution":
            continue
        concatenation, weights = (value.get_node() for value in node.input_values())
        of_channels = concatenation.get_type_name() == "Concat" and concatenation.get_attributes()["axis"] == 1
        if of_channels and weights.get_type_name() == "Constant":
            total = _sum(node, concatenation.input_values(), weights.data)
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(total)
    network.validate_nodes_and_infer_types()


def _sum(node: openvino.Node, parts: list[openvino.Output], weights: npt.NDArray[np.float32]) -> openvino.Output:
    """The convolution of each part with its weights, which come in the order of the channels, added up."""
    from openvino import opset13 as ops

    form = node.get_attributes()
    places = [form[name] for name in ("strides", "pads_begin", "pads_end", "dilations", "auto_pad")]
    ends = np.cumsum([part.shape[1] for part in parts])
    convolved = [
        ops.convolution(part, ops.constant(np.ascontiguousarray(own)), *places)
        for part, own in zip(parts, np.split(weights, ends[:-1], axis=1), strict=True)
    ]
    return reduce(ops.add, convolved).output(0)
