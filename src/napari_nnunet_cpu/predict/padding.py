"""Parts of an image that is smaller than the patch: with zeros around it, which are never made as a whole."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.predict.grid import Grid


def padded_part(
    image: npt.NDArray[np.float32], grid: Grid, place: tuple[slice, slice, slice]
) -> npt.NDArray[np.float32]:
    """A part of the padded image: a view where it lies in the image.

    Parameters
    ----------
    image : numpy.ndarray
        Shape (C, *grid.shape).
    grid : Grid
        Says where the image lies in the padded one.
    place : tuple of slice
        Z, Y, X in the padded image.

    Returns
    -------
    numpy.ndarray
        Shape (C, Z, Y, X).
    """
    shifted = [(part.start - before, part.stop - before) for part, before in zip(place, grid.before, strict=True)]
    inside = [slice(max(start, 0), min(stop, n)) for (start, stop), n in zip(shifted, grid.shape, strict=True)]
    part = image[:, *inside]
    size = tuple(stop - start for start, stop in shifted)
    if part.shape[1:] == size:
        return part
    whole = np.zeros((len(image), *size), np.float32)
    kept = [slice(i.start - start, i.stop - start) for i, (start, _) in zip(inside, shifted, strict=True)]
    whole[:, *kept] = part
    return whole
