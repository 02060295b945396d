"""The network in OpenVINO, on the CPU."""

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
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.models.network.head_layer import HeadLayer

if TYPE_CHECKING:
    import openvino


class OpenVINOEngine:
    """Runs the folds of a model with OpenVINO.

    Networks that were converted before come from the cache, and torch is not needed then. All folds share their input
    and output, of which every thread has its own; what a pass needs besides is given back when another fold takes over,
    unless passes of several run at a time.

    Parameters
    ----------
    model : TrainedModel
        Its weights are read here, unless the cache has them.
    threads : int
        CPU threads, at most; OpenVINO takes no more than there are cores.
    reason : str
        Why this engine.
    networks : iterable of openvino.Model, optional
        One per fold, which are changed; by default the model's in float32.
    precision : {"f32", "int8"}
        That of the networks.
    patch : tuple of int, optional
        Other than the model's.
    features : bool
        Whether to give features, and a `head_layer`, instead of logits; of one fold of a U-Net.
    keep_in : sequence of Path
        Folders of the networks that were given, see `compiled`.
    streams : int
        Passes at a time, which share the threads.

    Raises
    ------
    ModelError
        When a checkpoint is damaged or does not fit.
    EngineError
        When OpenVINO can't be loaded, can't express the network, or has no room for it.
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
        keep_in: Sequence[Path] = (),
        streams: int = 1,
    ) -> None:
        self.reason = reason
        self.precision = precision
        self.folds = len(model.folds)
        self._shape = (1, model.input_channels, *(patch or model.configuration.patch_size))
        self._compiled: list[openvino.CompiledModel] = []
        given = f32_networks(model, threads) if networks is None else networks
        for network, folder in zip_longest(given, keep_in):
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
        """The network without its last layer, which is kept."""
        features, self.head_layer = without_last_layer(network)
        return features

    def forward(self, patch: npt.NDArray[np.float32], fold: int) -> npt.NDArray[np.float32]:
        """One pass: (C, *patch) to (heads or features, *patch). See `Engine`."""
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
        """Its own or, where as many as there are streams have some, those of the one that has not called for longest.

        They are not thread-local: a thread of Qt's that ends with requests of its own takes the process with it.
        """
        with self._lock:
            thread = threading.get_ident()
            own = self._requests.pop(thread, None)
            if own is None and len(self._requests) == self.streams:
                own = self._requests.pop(next(iter(self._requests)))
            self._requests[thread] = own = own or _Requests(self._compiled)
            return own


class _Requests:
    """The passes of one thread: input and output, which the networks of all folds share."""

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
        self._requests[fold].infer(share_outputs=True)  # else it gives back a copy
        output: npt.NDArray[np.float32] = self._output[0]
        return output


def f32_networks(model: TrainedModel, threads: int) -> Iterator[openvino.Model]:
    """The networks of all folds in float32, from the cache if they can be there; made one by one.

    Raises
    ------
    ModelError
        When a checkpoint is damaged or does not fit.
    EngineError
        When OpenVINO can't be loaded, or can't express the network.
    """
    for fold in range(len(model.folds)):
        key = network_key(model, fold, "f32")
        network = read_network(key)
        if network is None:
            from napari_nnunet_cpu.engines.openvino.conversion import convert

            network = convert(model, fold, threads)
            keep_network(network, key)
            # What is read again is mapped from its file, and lets go of torch's weights.
            network = read_network(key) or network
        yield network


@contextmanager
def _engine_errors(doing: str) -> Iterator[None]:
    """Turn openvino's errors, which are RuntimeErrors, into ours."""
    try:
        yield
    except MemoryError as error:
        raise EngineError(f"{doing}: out of memory; free some") from error
    except RuntimeError as error:
        raise EngineError(f"{doing} failed: {last_line(error)}") from error
