"""The last layer of a U-Net: a convolution of one voxel, which turns features into logits.

It is linear, so it can be applied to the sums of features over tiles, instead of in every tile. If there are more
classes than features, this needs less memory and less time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

# Heads computed together: enough to read the features rarely, few enough to stay in the CPU cache.
_HEADS_AT_ONCE = 16
# Multiplications that OpenBLAS does in the calling thread. For more it starts threads of its own, which would compete
# with the calling threads.
_ONE_THREAD = 2**18


@dataclass(frozen=True, eq=False, slots=True)
class HeadLayer:
    """Turns sums of features into sums of logits."""

    # Shape (heads, features + 1), float32. The last column is the bias, for the sums of the weights of the tiles.
    matrix: Array

    @classmethod
    def of(cls, weights: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> HeadLayer:
        """Build the layer from the weights (heads, features, 1, ...) and the bias (heads) of the convolution."""
        return cls(np.concatenate([weights.reshape(len(weights), -1), bias.reshape(-1, 1)], axis=1, dtype=np.float32))

    @property
    def heads(self) -> int:
        """Number of heads."""
        return len(self.matrix)

    @property
    def features(self) -> int:
        """Number of features."""
        return int(self.matrix.shape[1]) - 1

    def apply(self, sums: Array) -> Iterator[Array]:
        """Yield the sums of each head, shape (...), float32.

        `sums` has shape (features + 1, ...), float32: those of the features, and last the weights of the tiles.
        """
        flat = sums.reshape(len(sums), -1)
        for part in self.parts(_HEADS_AT_ONCE):
            yield from part._product(flat).reshape(part.heads, *sums.shape[1:])

    def parts(self, heads: int) -> Iterator[HeadLayer]:
        """Split the layer into layers of at most `heads` heads."""
        return (HeadLayer(self.matrix[first : first + heads]) for first in range(0, self.heads, heads))

    def _product(self, flat: Array) -> Array:
        """The product of the matrix and sums (features + 1, voxels), shape (heads, voxels)."""
        found = np.empty((self.heads, flat.shape[1]), np.float32)
        size = max(_ONE_THREAD // self.matrix.size, 1)
        end = flat.shape[1] // size * size
        blocks, results = (array[:, :end].reshape(len(array), -1, size).transpose(1, 0, 2) for array in (flat, found))
        np.matmul(self.matrix, blocks, out=results)
        np.matmul(self.matrix, flat[:, end:], out=found[:, end:])
        return found
