"""A network of OpenVINO's, ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_nnunet_cpu.engines.instance_norm import normalize_exactly
from napari_nnunet_cpu.engines.library import load_openvino

if TYPE_CHECKING:
    import openvino


def compiled(network: openvino.Model, shape: Sequence[int], threads: int) -> openvino.CompiledModel:
    """Make a network ready for one shape of its input, in float32.

    Parameters
    ----------
    network : openvino.Model
        Is changed: what it was made of is not needed any more.
    shape : sequence of int
        Of the input (1, C, *patch).
    threads : int
        CPU threads of one pass, at most; OpenVINO takes no more than there are cores.

    Raises
    ------
    RuntimeError
        OpenVINO's own, as when the network can't take such a shape.
    """
    network.reshape(list(shape))
    normalize_exactly(network)
    options = {
        "INFERENCE_PRECISION_HINT": "f32",  # else bf16 or f16 where the CPU has it
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # else all processes with one thread share the first core
    }
    return load_openvino().Core().compile_model(network, "CPU", options)
