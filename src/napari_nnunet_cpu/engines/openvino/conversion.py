"""Convert a torch network to an OpenVINO network, in memory.

The network is traced with an example and then translated. The example is as small as possible, because tracing
runs the network, and the result does not depend on the size. torch.export is the successor of tracing, but takes
several times as long and splits InstanceNorm into parts.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from napari_nnunet_cpu.engines.openvino.compiled import compiled
from napari_nnunet_cpu.engines.openvino.library import last_line, load_openvino
from napari_nnunet_cpu.engines.torch_engine import torch_threads
from napari_nnunet_cpu.errors import EngineError, NNUNetCPUError
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network import Architecture

if TYPE_CHECKING:
    import openvino

# Of the root mean square of the logits. Rounding causes at most 1e-3, a wrong translation of an operation over 0.1.
_TOLERANCE = 0.01


def convert(model: TrainedModel, fold: int, threads: int) -> openvino.Model:
    """Convert the network of one fold: (1, C, *patch) to logits (1, heads, *patch), float32.

    The logits of an example are compared with torch's. Raises `ModelError` if the checkpoint is damaged or does not
    fit, and `EngineError` if OpenVINO does not support the network or computes other logits.
    """
    load_openvino()  # first, because it disables the telemetry of later imports
    network = model.network(fold)
    patch = model.configuration.patch_size
    shape = (1, model.input_channels, *patch)
    generator = torch.Generator().manual_seed(0)
    example = torch.randn((1, model.input_channels, *example_patch(model)), generator=generator)
    try:
        with torch_threads(threads), torch.no_grad():
            converted = _translated(network, example)
            _check(converted, example, network(example).numpy(), threads)
        converted.reshape(list(shape))
        found = tuple(converted.output(0).partial_shape.to_shape())
    except NNUNetCPUError:
        raise
    except MemoryError as error:
        raise EngineError("converting the network: out of memory; free some") from error
    except Exception as error:  # noqa: BLE001  # an unknown network can make torch or openvino raise anything
        raise EngineError(f"the network can't be converted for openvino: {last_line(error)}") from error
    if found != (1, model.labels.heads, *patch):
        raise EngineError(f"the network can't be converted for openvino: its logits would have the shape {found}")
    return converted


def example_patch(model: TrainedModel) -> tuple[int, ...]:
    """A patch with two voxels at the bottleneck, the minimum for normalization; for Primus, its fixed patch."""
    architecture, patch = model.architecture, model.configuration.patch_size
    if not isinstance(architecture, Architecture):
        return patch
    *others, last = architecture.reduction
    return (*others, 2 * last)


def _translated(network: torch.nn.Module, example: torch.Tensor) -> openvino.Model:
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # The steps of openvino.convert_model, but without its telemetry, which another package may have installed.
    trace: Any = torch.jit.trace
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about tracing, and about checks of shapes
        # Kept in a variable, because openvino needs the decoder but does not hold a reference.
        decoder = TorchScriptPythonDecoder(trace(network, example, check_trace=False))
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


def _check(converted: openvino.Model, example: torch.Tensor, expected: npt.NDArray[np.float32], threads: int) -> None:
    """Raise `EngineError` if the logits of the example differ from torch's."""
    found = compiled(converted.clone(), example.shape, threads)([example.numpy()])[0]
    if found.shape != expected.shape or not _size(found - expected) <= _TOLERANCE * _size(expected):
        raise EngineError("the network can't be converted for openvino: its logits differ from torch's")


def _size(array: npt.NDArray[np.float32]) -> float:
    """The root mean square; NaN if any number is NaN."""
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
