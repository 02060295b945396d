"""What is exported: logits as sums over tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Bounds
from napari_nnunet_cpu.models.network.head_layer import HeadLayer

Array = npt.NDArray[np.float32]

# Heads that are made of features at a time, where each is as large as the box.
_MEANS_AT_ONCE = 4


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
        Shape (heads, Z, Y, X) of the box, float32. With a `layer` those of what it makes heads of: features, and
        last the weights.
    weights : numpy.ndarray or None
        What the sums are to be divided by: shape (Z, Y, X), float32, 0 where no tile lies (the logits
        are 0 there). None where the sums are the logits.
    release : callable
        Called when what was read is not needed for now; hands memory of sums on disk back.
    layer : HeadLayer or None
        What makes heads of the sums; None where these are the heads'.
    """

    sums: Array
    weights: Array | None = None
    release: Callable[[], None] = _nothing
    layer: HeadLayer | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the box (Z, Y, X)."""
        return self.sums.shape[1:]

    def means(self) -> Iterator[Array]:
        """The logits of one head after the other, shape (Z, Y, X) each, float32, a new array."""
        if self.layer is None:
            for sums in self.sums:
                yield self._divided(sums)
                self.release()
            return
        for part in self.layer.parts(_MEANS_AT_ONCE):
            heads = np.empty((part.heads, *self.shape), np.float32)
            for row in range(self.shape[0]):
                for head, found in zip(heads, part.apply(self.sums[:, row]), strict=True):
                    head[row] = found
                self.release()
            yield from map(self._divided, heads)

    def heads(self, sums: Iterable[Array]) -> Iterable[Array]:
        """Sums of the heads, one after the other, where `sums` are here, or what is blended linearly of these."""
        if self.layer is None:
            return sums
        return self.layer.apply(sums if isinstance(sums, np.ndarray) else np.stack(list(sums)))

    def factors(self, row: int, part: slice, share: np.float32) -> Array | np.float32:
        """What turns sums of a row's `part` along Y into logits times `share`: a number, or shape (part, X)."""
        if self.weights is None:
            return share
        weights = self.weights[row, part]
        factors = np.zeros(weights.shape, dtype=np.float32)
        np.divide(share, weights, out=factors, where=weights > 0)
        return factors

    def _divided(self, sums: Array) -> Array:
        if self.weights is None:
            return sums.copy()
        mean = np.zeros(sums.shape, dtype=np.float32)
        np.divide(sums, self.weights, out=mean, where=self.weights > 0)
        return mean


# Gives the logits of a box of the prepared image.
LogitsOf = Callable[[Bounds], Logits]
