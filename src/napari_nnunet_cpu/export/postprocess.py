"""Remove components from labels. Source: nnU-Net `postprocessing/remove_connected_components.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.measure import label


def keep_largest(labels: npt.NDArray[Any], values: tuple[int, ...]) -> npt.NDArray[Any]:
    """A copy of labels (Z, Y, X) in which only the largest component of the given values remains.

    All other components of these values become background. Voxels that share a corner are connected. If several
    components are the largest, all of them remain.
    """
    mask = np.isin(labels, values)
    components = label(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    result = labels.copy()
    result[mask & (sizes[components] < sizes.max())] = 0
    return result
