"""The OpenVINO engine, in float32: the fastest exact engine on most CPUs."""

from napari_nnunet_cpu.engines.openvino.last_layer import last_convolution
from napari_nnunet_cpu.engines.openvino.library import last_line, load_nncf, load_openvino, openvino_version
from napari_nnunet_cpu.engines.openvino.network_cache import (
    describe_network,
    entry_folder,
    entry_sha256,
    keep_network,
    network_key,
    read_network,
)
from napari_nnunet_cpu.engines.openvino.openvino_engine import OpenVINOEngine, f32_networks
