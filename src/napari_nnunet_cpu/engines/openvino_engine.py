"""The network in OpenVINO: the CPU, float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines.compiled import compiled
from napari_nnunet_cpu.engines.engine import check_finite
from napari_nnunet_cpu.engines.library import last_line, load_openvino
from napari_nnunet_cpu.engines.network_cache import keep_network, network_key, read_network
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.model import TrainedModel

if TYPE_CHECKING:
    import openvino


class OpenVINOEngine:
    """Runs the folds of a model with OpenVINO.

    Networks that were converted before come from the cache, and torch is not needed then. All folds
    share their input and output; what a pass needs besides is given back when another fold takes over.

    Parameters
    ----------
    model : TrainedModel
        Its weights are read here, unless the cache has them.
    threads : int
        CPU threads of one pass, at most; OpenVINO takes no more than there are cores.
    reason : str
        Why this engine.

    Raises
    ------
    ModelError
        When a checkpoint is damaged or does not fit.
    EngineError
        When OpenVINO can't be loaded, can't express the network, or has no room for it.
    """

    name = "openvino"
    device = "cpu"
    precision = "f32"

    def __init__(self, model: TrainedModel, threads: int, reason: str = "") -> None:
        self.reason = reason
        self.folds = len(model.folds)
        patch = model.configuration.patch_size
        library: Any = load_openvino()
        self._patch = np.zeros((1, model.input_channels, *patch), np.float32)
        self._logits = np.zeros((1, model.labels.heads, *patch), np.float32)
        self._compiled: list[openvino.CompiledModel] = []
        self._requests: list[openvino.InferRequest] = []
        for fold in range(self.folds):
            network = _network(model, fold, threads, self.precision)
            with _engine_errors("preparing the network"):
                ready = compiled(network, self._patch.shape, threads)
                request = ready.create_infer_request()
                request.set_input_tensor(0, library.Tensor(self._patch, shared_memory=True))
                request.set_output_tensor(0, library.Tensor(self._logits, shared_memory=True))
            self._compiled.append(ready)
            self._requests.append(request)
        self.threads = int(self._compiled[0].get_property("INFERENCE_NUM_THREADS"))
        self._last = 0

    def logits(self, patch: npt.NDArray[np.float32], fold: int) -> npt.NDArray[np.float32]:
        """One pass: (C, *patch) to (heads, *patch). See `Engine`."""
        if patch.shape != self._patch.shape[1:]:
            raise EngineError(f"running the network failed: it takes {self._patch.shape[1:]}, found {patch.shape}")
        self._patch[0] = patch
        with _engine_errors("running the network"):
            if fold != self._last:
                self._compiled[self._last].release_memory()
                self._last = fold
            self._requests[fold].infer()
        return check_finite(self._logits[0])


def _network(model: TrainedModel, fold: int, threads: int, precision: str) -> openvino.Model:
    """The network of a fold, from the cache if it can be there."""
    key = network_key(model, fold, precision)
    network = read_network(key)
    if network is None:
        from napari_nnunet_cpu.engines.conversion import convert

        converted = convert(model, fold, threads)
        keep_network(converted, key)
        # What is read again is mapped from its file, and lets go of torch's weights.
        kept = read_network(key)
        return converted if kept is None else kept
    return network


@contextmanager
def _engine_errors(doing: str) -> Iterator[None]:
    """Turn openvino's errors, which are RuntimeErrors, into ours."""
    try:
        yield
    except MemoryError as error:
        raise EngineError(f"{doing}: out of memory; free some") from error
    except RuntimeError as error:
        raise EngineError(f"{doing} failed: {last_line(error)}") from error
