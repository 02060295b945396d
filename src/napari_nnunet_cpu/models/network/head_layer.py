"""The last layer of a U-Net: a convolution of 1 voxel, which makes logits of feature maps.

It is linear. So the weighted sum of the logits of tiles is made of that of their features, and where there are more
classes than features the sums of features are fewer, and what they stand for is computed once and not in every tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

# What is made of features at a time: enough that these are read seldom, few enough to stay in the cache.
_HEADS_AT_ONCE = 16
# Multiplications that numpy's OpenBLAS makes in the thread at hand. It spreads more than that over threads of its own,
# which are in the way of those that call it.
_ONE_THREAD = 2**18


@dataclass(frozen=True, eq=False, slots=True)
class HeadLayer:
    """Makes sums of logits of sums of features.

    Attributes
    ----------
    matrix : numpy.ndarray
        Shape (heads, features + 1), float32; the last column is the bias, which counts as often as the weights of
        tiles say.
    """

    matrix: Array

    @classmethod
    def of(cls, weights: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> HeadLayer:
        """From the weights (heads, features, 1, ...) and the bias (heads) of the convolution."""
        return cls(np.concatenate([weights.reshape(len(weights), -1), bias.reshape(-1, 1)], axis=1, dtype=np.float32))

    @property
    def heads(self) -> int:
        """How many heads it makes."""
        return len(self.matrix)

    @property
    def features(self) -> int:
        """Of how many features."""
        return int(self.matrix.shape[1]) - 1

    def apply(self, sums: Array) -> Iterator[Array]:
        """Sums of one head after the other.

        Parameters
        ----------
        sums : numpy.ndarray
            Shape (features + 1, ...), float32: of the features, and last the weights of the tiles.

        Yields
        ------
        numpy.ndarray
            Shape of one of the sums, float32.
        """
        flat = sums.reshape(len(sums), -1)
        for part in self.parts(_HEADS_AT_ONCE):
            yield from part._product(flat).reshape(part.heads, *sums.shape[1:])

    def parts(self, heads: int) -> Iterator[HeadLayer]:
        """The layer, cut into those of so many heads at most."""
        return (HeadLayer(self.matrix[first : first + heads]) for first in range(0, self.heads, heads))

    def _product(self, flat: Array) -> Array:
        """The matrix times sums (features + 1, places), as (heads, places)."""
        found = np.empty((self.heads, flat.shape[1]), np.float32)
        size = max(_ONE_THREAD // self.matrix.size, 1)
        end = flat.shape[1] // size * size
        blocks, results = (array[:, :end].reshape(len(array), -1, size).transpose(1, 0, 2) for array in (flat, found))
        np.matmul(self.matrix, blocks, out=results)
        np.matmul(self.matrix, flat[:, end:], out=found[:, end:])
        return found
