"""Logits as weighted sums over tiles: the input of every export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.models.network import HeadLayer

Array = npt.NDArray[np.float32]

# Heads computed together from features; each needs memory for the whole box.
_MEANS_AT_ONCE = 4


def _nothing() -> None:
    pass


@dataclass(frozen=True, eq=False)
class Logits:
    """The logits in a box of the prepared image, as weighted sums over tiles.

    The arrays may be views of sums that later tiles change, and are only read here. If only some rows (along the
    first axis) are in memory, the views are valid until the next tile is added.
    """

    # Shape (heads, Z, Y, X) of the box, float32. With a `layer`: of the features, and last the sums of the weights.
    sums: Array
    # Divisors of the sums: shape (Z, Y, X), float32; 0 where no tile lies, and there the logits are 0. None if the
    # sums are the logits.
    weights: Array | None = None
    release: Callable[[], None] = _nothing  # frees the memory of sums on disk, once they are read
    layer: HeadLayer | None = None  # turns features into heads

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the box (Z, Y, X)."""
        return self.sums.shape[1:]

    def means(self) -> Iterator[Array]:
        """Yield the logits of each head as a new array (Z, Y, X), float32."""
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
        """The sums of each head, from `self.sums` or a linear blend of them."""
        if self.layer is None:
            return sums
        return self.layer.apply(sums if isinstance(sums, np.ndarray) else np.stack(list(sums)))

    def factors(self, row: int, part: slice, share: np.float32) -> Array | np.float32:
        """Factors that turn sums in a row's `part` along Y into logits times `share`: a number, or shape (part, X)."""
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


# Returns the logits in a box of the prepared image.
LogitsOf = Callable[[Box], Logits]
