"""What computes the network, seen from the loop: numpy in, numpy out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines.agreement import Agreement
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.network.head_layer import HeadLayer


class Engine(Protocol):
    """Runs the network of a model on one patch.

    Attributes
    ----------
    name : str
        "torch", "openvino".
    device : str
        Where it computes: "cpu", "cuda:0", "mps".
    precision : str
        "f32", "int8".
    threads : int
        CPU threads it uses.
    streams : int
        Passes that it computes at a time, at most, in as many threads that call `forward`.
    folds : int
        Networks it holds.
    reason : str
        Why this engine and no other: one line for people; empty where nobody chose.
    agreement : Agreement or None
        Of int8 with f32, on parts of the image that it was chosen for; None in f32.
    head_layer : HeadLayer or None
        What makes logits of the features that a pass gives; None where a pass gives logits.
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
        """One pass through the network.

        Parameters
        ----------
        patch : numpy.ndarray
            Shape (C, *patch), contiguous; (C, Y, X) for a 2d network.
        fold : int
            Which of the networks.

        Returns
        -------
        numpy.ndarray
            Shape (heads, *patch), or with a `head_layer` (features, *patch), in any layout; may be overwritten by the
            next call of the same thread.

        Raises
        ------
        EngineError
            When the network fails or gives numbers that are not finite.
        """


def check_finite(output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The output (C, *patch) itself.

    Raises
    ------
    EngineError
        When a number is not finite.
    """
    # Plane by plane, in little memory, and once through it however channels lie there.
    if not all(np.isfinite(output[:, plane]).all() for plane in range(output.shape[1])):
        raise EngineError("the network gave numbers that are not finite; its weights may be damaged")
    return output
