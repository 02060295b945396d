"""A torch network as a network of OpenVINO's, in memory.

The network is traced with an example and then translated. The example is as small as the network
allows, since the trace runs the network and what it records does not depend on the size. torch.export
would be the successor of the trace, but takes several times as long and takes InstanceNorm apart.
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
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.models.network.architecture import Architecture

if TYPE_CHECKING:
    import openvino

# Of the logits, root mean square. Rounding gives 1e-3 at most, an operation translated wrongly more than 0.1.
_TOLERANCE = 0.01


def convert(model: TrainedModel, fold: int, threads: int) -> openvino.Model:
    """The network of one fold in OpenVINO, for the model's patch; what torch computes is compared once.

    Parameters
    ----------
    model : TrainedModel
        Its weights are read here.
    fold : int
        Which of the networks.
    threads : int
        CPU threads to use.

    Returns
    -------
    openvino.Model
        Maps (1, C, *patch) to logits (1, heads, *patch), float32.

    Raises
    ------
    ModelError
        When the checkpoint is damaged or does not fit.
    EngineError
        When OpenVINO can't express the network, or gives other numbers than torch.
    """
    load_openvino()  # before any other import of it
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
    except Exception as error:  # noqa: BLE001  # a network that torch or openvino has never seen may raise anything
        raise EngineError(f"the network can't be converted for openvino: {last_line(error)}") from error
    if found != (1, model.labels.heads, *patch):
        raise EngineError(f"the network can't be converted for openvino: its logits would have the shape {found}")
    return converted


def example_patch(model: TrainedModel) -> tuple[int, ...]:
    """A patch with two voxels at the bottleneck, the fewest that can be normalized; of a Primus its only one."""
    architecture, patch = model.architecture, model.configuration.patch_size
    if not isinstance(architecture, Architecture):
        return patch
    *others, last = architecture.reduction
    return (*others, 2 * last)


def _translated(network: torch.nn.Module, example: torch.Tensor) -> openvino.Model:
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # The steps of openvino.convert_model without its telemetry, which another package may have brought along.
    trace: Any = torch.jit.trace
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch: about tracing as such, and about checks of shapes
        # openvino does not hold the decoder, but needs it until the end
        decoder = TorchScriptPythonDecoder(trace(network, example, check_trace=False))
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


def _check(converted: openvino.Model, example: torch.Tensor, expected: npt.NDArray[np.float32], threads: int) -> None:
    """Raise `EngineError` unless the logits of the example are torch's."""
    found = compiled(converted.clone(), example.shape, threads)([example.numpy()])[0]
    if found.shape != expected.shape or not _size(found - expected) <= _TOLERANCE * _size(expected):
        raise EngineError("the network can't be converted for openvino: its logits differ from torch's")


def _size(array: npt.NDArray[np.float32]) -> float:
    """Root mean square; not a number if one of them is not."""
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
