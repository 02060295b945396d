"""Refuse images with invalid intensities, and say how many voxels are affected and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.errors import CaseError

# nnU-Net computes mean and deviation in float32, which overflows for larger values in 700 x 700 x 700 voxels.
# Values that mean "no data" are larger (-3.4e38, 1e30, 1e20), and a single one removes the contrast of all others.
_MAX_INTENSITY = 1e15


def check_finite(channels: npt.NDArray[Any], name: str) -> None:
    """Raise `CaseError` if channels (C, Z, Y, X) are not finite in float32, the type that networks compute in."""
    for index, channel in enumerate(channels if channels.dtype.kind == "f" else ()):
        with np.errstate(all="ignore"):
            finite = np.isfinite(channel.astype(np.float32, copy=False))
        if not finite.all():
            raise _refusal(~finite, index, name, "are NaN, infinite or beyond 3.4e38")


def check_intensities(channel: npt.NDArray[Any], index: int, name: str) -> None:
    """Raise `CaseError` if a channel (Z, Y, X) has values so large that normalizing would remove all contrast."""
    if channel.dtype.kind != "f":
        return
    extreme = max(channel.max(), channel.min(), key=abs)
    if abs(extreme) > _MAX_INTENSITY:
        bad = np.abs(channel) > _MAX_INTENSITY
        raise _refusal(bad, index, name, f'are as large as {extreme:.3g}, which means "no data"')


def _refusal(bad: npt.NDArray[np.bool_], index: int, name: str, what: str) -> CaseError:
    first = tuple(int(number) for number in np.unravel_index(bad.argmax(), bad.shape))
    along = (np.flatnonzero(bad.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    box = ",".join(f"{hits[0]}:{hits[-1] + 1}" for hits in along)
    return CaseError(
        f"{name}: channel {index} has {np.count_nonzero(bad)} voxels that {what}; the first is (Z, Y, X) {first}, all "
        f"lie in the box {box}; set them to the value of the background first, such as 0"
    )
