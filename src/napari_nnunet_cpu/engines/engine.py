"""The interface of engines, which compute the network: numpy in, numpy out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines.agreement import Agreement
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.network import HeadLayer


class Engine(Protocol):
    """Runs the network of a model on one patch.

    Attributes
    ----------
    name : str
        "torch", "openvino".
    device : str
        The device that computes: "cpu", "cuda:0", "mps".
    precision : str
        "f32", "int8".
    threads : int
        CPU threads in use.
    streams : int
        Maximum of passes at the same time, each in a thread that calls `forward`.
    folds : int
        Number of networks.
    reason : str
        Why this engine was chosen, in one line for the user; empty if it was not chosen.
    agreement : Agreement or None
        Agreement of int8 with f32 on crops of the image; None in f32.
    head_layer : HeadLayer or None
        Turns the features of a pass into logits; None if a pass returns logits.
    """

    name: str
    device: str
    precision: str
    threads: int
    streams: int
    folds: int
    reason: str
    agreement: Agreement | None
    head_layer: HeadLayer | None

    def forward(self, patch: npt.NDArray[np.float32], fold: int) -> npt.NDArray[np.float32]:
        """Run one pass through a network.

        Parameters
        ----------
        patch : numpy.ndarray
            Shape (C, *patch), float32, contiguous; (C, Y, X) for a 2d network.
        fold : int
            Index of the network.

        Returns
        -------
        numpy.ndarray
            Shape (heads, *patch), or with a `head_layer` (features, *patch), in any memory layout. The next
            call of the same thread may overwrite it.

        Raises
        ------
        EngineError
            When the network fails, or its output is not finite.
        """


def check_finite(output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the output (C, *patch) unchanged, or raise `EngineError` if it is not finite."""
    # Plane by plane, because this needs little memory and is fast in any memory layout.
    if not all(np.isfinite(output[:, plane]).all() for plane in range(output.shape[1])):
        raise EngineError("the network gave numbers that are not finite; its weights may be damaged")
    return output
