"""The torch engine: CPU, CUDA or MPS, float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_nnunet_cpu.engines.agreement import Agreement
from napari_nnunet_cpu.engines.engine import check_finite
from napari_nnunet_cpu.errors import EngineError, first_line
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network import HeadLayer


class TorchEngine:
    """Runs the folds of a model with torch.

    With `features` it returns features and has a `head_layer`; only for one fold of a U-Net. Raises `ModelError` if
    a checkpoint is damaged or does not fit, and `EngineError` if the weights do not fit into the device's memory.
    """

    name = "torch"
    precision = "f32"
    streams = 1
    agreement: Agreement | None = None
    head_layer: HeadLayer | None = None

    def __init__(
        self, model: TrainedModel, device: str, threads: int, reason: str = "", *, features: bool = False
    ) -> None:
        self.reason = reason
        self.device = device
        self.threads = threads
        self.folds = len(model.folds)
        networks: list[Any] = [model.network(fold) for fold in range(self.folds)]
        if features:
            self.head_layer = networks[0].decoder.pop_last_layer()
        with _engine_errors(f"moving the weights to {device}"):
            self._networks = [network.to(device) for network in networks]

    def forward(self, patch: npt.NDArray[np.float32], fold: int) -> npt.NDArray[np.float32]:
        """Run one pass: (C, *patch) to (heads or features, *patch). See `Engine`."""
        with _engine_errors("running the network"), torch_threads(self.threads), torch.inference_mode():
            output = self._networks[fold](torch.from_numpy(patch)[None].to(self.device))[0]
            found: npt.NDArray[np.float32] = output.float().cpu().numpy()
        return check_finite(found)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this many CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _engine_errors(task: str) -> Iterator[None]:
    """Turn torch's errors, which are RuntimeErrors, into `EngineError`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EngineError(f"{task}: out of memory; free some, or choose another device") from error
    except RuntimeError as error:
        raise EngineError(f"{task} failed: {first_line(error)}") from error
