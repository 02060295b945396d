"""What is exported: logits as sums over tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Bounds

Array = npt.NDArray[np.float32]


def _nothing() -> None:
    pass


@dataclass(frozen=True, eq=False)
class Logits:
    """Logits of a box of the prepared image, as weighted sums.

    Nothing here is written to: views of what goes on being added to will do. Where not all rows (along the first
    axis) are held at the same time they are of use until the next tile is added.

    Attributes
    ----------
    sums : numpy.ndarray
        Shape (heads, Z, Y, X) of the box, float32.
    weights : numpy.ndarray or None
        What the sums are to be divided by: shape (Z, Y, X), float32, 0 where no tile lies (the logits
        are 0 there). None where the sums are the logits.
    release : callable
        Called when what was read is not needed for now; hands memory of sums on disk back.
    """

    sums: Array
    weights: Array | None = None
    release: Callable[[], None] = _nothing

    def mean(self, head: int) -> Array:
        """The logits of one head, shape (Z, Y, X), float32, a new array."""
        sums: Array = self.sums[head]
        if self.weights is None:
            return sums.copy()
        mean = np.zeros(sums.shape, dtype=np.float32)
        np.divide(sums, self.weights, out=mean, where=self.weights > 0)
        self.release()
        return mean

    def factors(self, row: int, part: slice, share: np.float32) -> Array | np.float32:
        """What turns sums of a row's `part` along Y into logits times `share`: a number, or shape (part, X)."""
        if self.weights is None:
            return share
        weights = self.weights[row, part]
        factors = np.zeros(weights.shape, dtype=np.float32)
        np.divide(share, weights, out=factors, where=weights > 0)
        return factors


# Gives the logits of a box of the prepared image.
LogitsOf = Callable[[Bounds], Logits]
