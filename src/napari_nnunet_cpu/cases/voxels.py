"""Voxels whose values are no intensities: how many there are, and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.errors import CaseError

# nnU-Net takes mean and deviation in float32, which holds the squares of this, summed over 700 x 700 x 700 voxels.
# Values that mean "no data" are larger (-3.4e38, 1e30, 1e20), and a single one leaves other voxels without contrast.
_MAX_INTENSITY = 1e15


def check_finite(channels: npt.NDArray[Any], name: str) -> None:
    """Refuse channels (C, Z, Y, X) that are not finite in the 32 bits in which networks compute.

    Raises
    ------
    CaseError
        It says how many voxels of which channel, and where they are.
    """
    for index, channel in enumerate(channels if channels.dtype.kind == "f" else ()):
        with np.errstate(all="ignore"):
            finite = np.isfinite(channel.astype(np.float32, copy=False))
        if not finite.all():
            raise _refusal(~finite, index, name, "are NaN, infinite or beyond 3.4e38")


def check_intensities(channel: npt.NDArray[Any], index: int, name: str) -> None:
    """Refuse a channel (Z, Y, X) with values so large that nothing else is left once nnU-Net has normalized it.

    Raises
    ------
    CaseError
        It says how many voxels, and where they are.
    """
    if channel.dtype.kind != "f":
        return
    extreme = max(channel.max(), channel.min(), key=abs)
    if abs(extreme) > _MAX_INTENSITY:
        bad = np.abs(channel) > _MAX_INTENSITY
        raise _refusal(bad, index, name, f'are as large as {extreme:.3g}, which is no intensity but means "no data"')


def _refusal(bad: npt.NDArray[np.bool_], index: int, name: str, what: str) -> CaseError:
    first = tuple(int(number) for number in np.unravel_index(bad.argmax(), bad.shape))
    along = (np.flatnonzero(bad.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    box = ",".join(f"{hits[0]}:{hits[-1] + 1}" for hits in along)
    return CaseError(
        f"{name}: channel {index} has {np.count_nonzero(bad)} voxels that {what}; the first is (Z, Y, X) {first}, all "
        f"lie in the box {box}; give them the value of the background first, such as 0"
    )
