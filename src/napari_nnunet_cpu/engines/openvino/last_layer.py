"""Find and remove the last layer of an OpenVINO network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_nnunet_cpu.engines.openvino.library import load_openvino
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.network import HeadLayer

if TYPE_CHECKING:
    import openvino


def last_convolution(network: openvino.Model) -> openvino.Node | None:
    """The convolution of one voxel, with a bias, at the end of the network; None for another last layer."""
    add = network.output(0).get_node().input_value(0).get_node()
    if add.get_type_name() != "Add":
        return None
    convolution: openvino.Node = add.input_value(0).get_node()
    if convolution.get_type_name() != "Convolution":
        return None
    kernel = set(convolution.input_value(1).get_shape()[2:])
    return convolution if kernel == {1} else None


def without_last_layer(network: openvino.Model) -> tuple[openvino.Model, HeadLayer]:
    """Return a network without its last layer, sharing all others: features (1, *patch, features), and the layer.

    Channels are last, as inside OpenVINO's convolutions, because moving them first took up to a fifth of a pass in
    int8. Raises `EngineError` if there is no such last layer.
    """
    from openvino import opset13 as ops

    convolution = last_convolution(network)
    if convolution is None:
        raise EngineError(
            "the network does not end with a convolution of 1 voxel, so that its features can't be summed"
        )
    bias = network.output(0).get_node().input_value(0).get_node().input_value(1).get_node()
    while bias.get_type_name() == "Reshape":
        bias = bias.input_value(0).get_node()
    weights = convolution.input_value(1).get_node()
    if {bias.get_type_name(), weights.get_type_name()} != {"Constant"}:
        raise EngineError(
            "the weights of the network's last layer are no constants, so that its features can't be summed"
        )
    features = convolution.input_value(0)
    axes = range(len(features.partial_shape))
    last = ops.transpose(features, np.array([0, *axes[2:], 1]), name=f"{features.get_node().get_friendly_name()}/last")
    return load_openvino().Model([last], network.get_parameters()), HeadLayer.of(weights.data, bias.data)
