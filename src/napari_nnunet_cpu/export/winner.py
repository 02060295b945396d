"""Decide which head wins at each voxel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.models import Labels


class Winner:
    """Decides between heads that are shown one after the other.

    For ordinary labels the largest head wins, and for a tie the first, as in argmax. For regions the last
    positive head wins, because later regions paint over earlier ones, and its sigmoid exceeds one half.

    `code` is the winner so far: the index of the head; for regions this index plus one, and 0 for no region.
    `label_values` turns codes into labels.
    """

    def __init__(self, labels: Labels, shape: tuple[int, ...]) -> None:
        self._regions = labels.region_values is not None
        self.code: npt.NDArray[Any] = np.zeros(shape, dtype=np.min_scalar_type(labels.heads))
        self._best = np.full(shape, 0 if self._regions else -np.inf, dtype=np.float32)
        self._better = np.empty(shape, dtype=np.bool_)

    def show(self, head: int, logits: npt.NDArray[np.float32]) -> None:
        """Show the logits of the next head. A positive factor common to all heads has no influence."""
        np.greater(logits, self._best, out=self._better)
        np.copyto(self.code, self.code.dtype.type(head + self._regions), where=self._better)
        if not self._regions:
            np.maximum(self._best, logits, out=self._best)

    def show_all(self, heads: Iterable[npt.NDArray[np.float32]]) -> None:
        """Show the logits of all heads."""
        for number, logits in enumerate(heads):
            self.show(number, logits)


def label_values(labels: Labels) -> npt.NDArray[Any]:
    """The label of every `code` of a `Winner`, in the type of label arrays."""
    regions = labels.region_values
    return np.array(range(labels.heads) if regions is None else (0, *regions), dtype=labels.dtype)
