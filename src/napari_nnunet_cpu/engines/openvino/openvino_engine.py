"""The OpenVINO engine, on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines.agreement import Agreement
from napari_nnunet_cpu.engines.engine import check_finite
from napari_nnunet_cpu.engines.openvino.compiled import compiled
from napari_nnunet_cpu.engines.openvino.last_layer import without_last_layer
from napari_nnunet_cpu.engines.openvino.library import last_line, load_openvino
from napari_nnunet_cpu.engines.openvino.network_cache import keep_network, network_key, read_network, release_weights
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network import HeadLayer

if TYPE_CHECKING:
    import openvino


class OpenVINOEngine:
    """Runs the folds of a model with OpenVINO.

    Converted networks come from the cache, and torch is then not needed. All folds share one input and one output
    array per thread. With one stream, further memory of a fold is freed when another fold runs.

    `networks` are the networks of all folds, which will be changed, and `folders` their cache folders, see `compiled`;
    by default they are the model's networks in float32. `threads` is the maximum for all streams together, limited by
    the number of cores. `patch` is another patch size than the model's. With `features`, which needs one fold of a
    U-Net, the engine returns features and has a `head_layer`.

    Raises `ModelError` if a checkpoint is damaged or does not fit, and `EngineError` if OpenVINO can't be loaded, does
    not support the network, or runs out of memory.
    """

    name = "openvino"
    device = "cpu"
    agreement: Agreement | None = None
    head_layer: HeadLayer | None = None

    def __init__(
        self,
        model: TrainedModel,
        threads: int,
        reason: str = "",
        networks: Iterable[openvino.Model] | None = None,
        *,
        precision: str = "f32",
        patch: tuple[int, ...] | None = None,
        features: bool = False,
        folders: Sequence[Path] = (),
        streams: int = 1,
    ) -> None:
        self.reason = reason
        self.precision = precision
        self.folds = len(model.folds)
        self._shape = (1, model.input_channels, *(patch or model.configuration.patch_size))
        self._compiled: list[openvino.CompiledModel] = []
        given = f32_networks(model, threads) if networks is None else networks
        for network, folder in zip_longest(given, folders):
            with _engine_errors("preparing the network"):
                ready = compiled(self._cut(network) if features else network, self._shape, threads, folder, streams)
            self._compiled.append(ready)
            release_weights()
        self.threads = int(self._compiled[0].get_property("INFERENCE_NUM_THREADS"))
        self.streams = int(self._compiled[0].get_property("NUM_STREAMS"))
        self._last = 0
        self._lock = threading.Lock()
        with _engine_errors("preparing the network"):
            self._requests = {threading.get_ident(): _Requests(self._compiled)}

    def _cut(self, network: openvino.Model) -> openvino.Model:
        """Return the network without its last layer, and keep the layer in `head_layer`."""
        features, self.head_layer = without_last_layer(network)
        return features

    def forward(self, patch: npt.NDArray[np.float32], fold: int) -> npt.NDArray[np.float32]:
        """Run one pass: (C, *patch) to (heads or features, *patch). See `Engine`."""
        if patch.shape != self._shape[1:]:
            raise EngineError(f"running the network failed: it takes {self._shape[1:]}, found {patch.shape}")
        with _engine_errors("running the network"):
            requests = self._requests_of_this_thread()
            if self.streams == 1 and fold != self._last:
                self._compiled[self._last].release_memory()
                self._last = fold
            output = requests.infer(patch, fold)
        return check_finite(output if self.head_layer is None else np.moveaxis(output, -1, 0))

    def _requests_of_this_thread(self) -> _Requests:
        """The requests of the calling thread; if all streams have some, it takes over the least recently used.

        They are not thread-local, because a Qt thread that ends with requests of its own crashes the process.
        """
        with self._lock:
            thread = threading.get_ident()
            own = self._requests.pop(thread, None)
            if own is None and len(self._requests) == self.streams:
                own = self._requests.pop(next(iter(self._requests)))
            self._requests[thread] = own = own or _Requests(self._compiled)
            return own


class _Requests:
    """Inference requests of one thread, for the networks of all folds, with a shared input and output array."""

    def __init__(self, networks: Sequence[openvino.CompiledModel]) -> None:
        library: Any = load_openvino()
        self._patch = np.zeros(networks[0].input(0).shape, np.float32)
        self._output = np.zeros(networks[0].output(0).shape, np.float32)
        self._requests = [network.create_infer_request() for network in networks]
        for request in self._requests:
            request.set_input_tensor(0, library.Tensor(self._patch, shared_memory=True))
            request.set_output_tensor(0, library.Tensor(self._output, shared_memory=True))

    def infer(self, patch: npt.NDArray[np.float32], fold: int) -> npt.NDArray[np.float32]:
        self._patch[0] = patch
        self._requests[fold].infer(share_outputs=True)  # without a copy of the output
        output: npt.NDArray[np.float32] = self._output[0]
        return output


def f32_networks(model: TrainedModel, threads: int) -> Iterator[openvino.Model]:
    """Yield the networks of all folds in float32, from the cache or newly converted.

    Raises `ModelError` if a checkpoint is damaged or does not fit, and `EngineError` if OpenVINO can't be loaded or
    does not support the network.
    """
    for fold in range(len(model.folds)):
        key = network_key(model, fold, "f32")
        network = read_network(key)
        if network is None:
            from napari_nnunet_cpu.engines.openvino.conversion import convert

            network = convert(model, fold, threads)
            keep_network(network, key)
            # Read again, because the weights are then mapped from the file and torch's can be freed.
            network = read_network(key) or network
        yield network


@contextmanager
def _engine_errors(task: str) -> Iterator[None]:
    """Turn OpenVINO's errors, which are RuntimeErrors, into `EngineError`."""
    try:
        yield
    except MemoryError as error:
        raise EngineError(f"{task}: out of memory; free some") from error
    except RuntimeError as error:
        raise EngineError(f"{task} failed: {last_line(error)}") from error
