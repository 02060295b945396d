"""Which head a voxel belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.models.labels import Labels


class Winner:
    """Decides between heads that are shown one after the other, first to last.

    Of ordinary labels the largest head wins, of equal ones the first, as with argmax. Of regions the last
    positive one wins, since later regions paint over earlier ones and the sigmoid exceeds one half there.

    Parameters
    ----------
    labels : Labels
        Of the model.
    shape : tuple of int
        Of what is decided.

    Attributes
    ----------
    code : numpy.ndarray
        Who won, so far: the head, or for regions the head plus one and 0 for none. `label_values` turns
        it into labels.
    """

    def __init__(self, labels: Labels, shape: tuple[int, ...]) -> None:
        self._regions = labels.region_values is not None
        self.code: npt.NDArray[Any] = np.zeros(shape, dtype=np.min_scalar_type(labels.heads))
        self._best = np.full(shape, 0 if self._regions else -np.inf, dtype=np.float32)
        self._better = np.empty(shape, dtype=np.bool_)

    def show(self, head: int, logits: npt.NDArray[np.float32]) -> None:
        """Show the logits of the next head; a common positive factor of all heads does not matter."""
        np.greater(logits, self._best, out=self._better)
        np.copyto(self.code, self.code.dtype.type(head + self._regions), where=self._better)
        if not self._regions:
            np.maximum(self._best, logits, out=self._best)

    def show_all(self, heads: Iterable[npt.NDArray[np.float32]]) -> None:
        """Show the logits of all heads."""
        for number, logits in enumerate(heads):
            self.show(number, logits)


def label_values(labels: Labels) -> npt.NDArray[Any]:
    """The label that every `code` of a `Winner` stands for, in the type of the label array."""
    regions = labels.region_values
    return np.array(range(labels.heads) if regions is None else (0, *regions), dtype=labels.dtype)
