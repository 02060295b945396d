"""Postprocessing of labels: remove components. Source: nnU-Net `postprocessing/remove_connected_components.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.measure import label


def keep_largest(labels: npt.NDArray[Any], values: tuple[int, ...]) -> npt.NDArray[Any]:
    """Of the voxels with any of these values keep the largest component; the others become background.

    Voxels that touch at a corner belong together. Of components of the same size all stay.

    Parameters
    ----------
    labels : numpy.ndarray
        Integers, shape (Z, Y, X).
    values : tuple of int
        A label, a region, or several of them.

    Returns
    -------
    numpy.ndarray
        A new array of the same shape and type.
    """
    mask = np.isin(labels, values)
    components = label(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    result = labels.copy()
    result[mask & (sizes[components] < sizes.max())] = 0
    return result
