"""The placement of labels: exactly on their image, without its channel axis and maybe with fewer time points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image

from napari_nnunet_cpu.viewer.image.axes import Axes

_TRANSFORMS = ("scale", "translate", "rotate", "shear", "units", "axis_labels")


@dataclass(frozen=True, eq=False)
class Placement:
    """The grids of an image layer and of its labels.

    Labels have no channels. napari aligns layers with fewer axes to the last axes of the world, so a
    first axis of channels can be dropped. A channel axis at another position stays, as one voxel that
    extends over all channels.
    """

    axes: Axes  # of the image layer
    shape: tuple[int, ...]  # of the image layer, without colours
    transforms: dict[str, Any]  # of the image layer, as keyword arguments of a new layer

    def labels_shape(self, times: Sequence[int]) -> tuple[int, ...]:
        """Shape of a labels layer for these time points."""
        shape = list(self.shape)
        if self.axes.time is not None:
            shape[self.axes.time] = len(times)
        if self.axes.channel is not None:
            shape[self.axes.channel] = 1
        return tuple(shape[self._dropped :])

    def index(self, number: int, part: tuple[slice, ...] | None = None) -> tuple[int | slice, ...]:
        """The index of the `number`-th time point in an array of `labels_shape`.

        `part` restricts it, with a slice for each spatial axis of the layer.
        """
        index: list[int | slice] = [slice(None)] * len(self.shape)
        for axis, side in zip(self.axes.space, part or (), strict=part is not None):
            index[axis] = side
        if self.axes.time is not None:
            index[self.axes.time] = number
        if self.axes.channel is not None:
            index[self.axes.channel] = 0
        return tuple(index[self._dropped :])

    def first(self, count: int) -> tuple[slice, ...]:
        """The index of the first `count` time points in an array of `labels_shape`."""
        index = [slice(None)] * len(self.shape)
        if self.axes.time is not None:
            index[self.axes.time] = slice(count)
        return tuple(index[self._dropped :])

    def labels_transforms(self, times: Sequence[int]) -> dict[str, Any]:
        """Transforms of a labels layer for these consecutive time points."""
        transforms = dict(self.transforms)
        if self.axes.time is not None:
            transforms = _stretched(transforms, self.axes.time, start=times[0], factor=1)
        if self.axes.channel is not None and not self._dropped:
            count = self.shape[self.axes.channel]
            transforms = _stretched(transforms, self.axes.channel, start=(count - 1) / 2, factor=count)
        return _without_first(transforms) if self._dropped else transforms

    @property
    def _dropped(self) -> int:
        """The number of first axes that labels do not have: 1 for a channel axis that can be dropped, else 0."""
        return int(self.axes.channel == 0 and _first_is_apart(self.transforms))


def layer_placement(layer: Image, axes: Axes, shape: tuple[int, ...]) -> Placement:
    """A snapshot of the placement of a layer, which later changes of the layer do not affect."""
    transforms = {name: getattr(layer, name) for name in _TRANSFORMS}
    # A copy of the affine, because napari shares the object, and moving one layer would move the other.
    return Placement(axes, shape, transforms | {"affine": layer.affine.affine_matrix.copy()})


def _shear(transforms: dict[str, Any]) -> npt.NDArray[np.float64]:
    """The shear as a matrix, because napari may give only the part above the diagonal."""
    shear = np.asarray(transforms["shear"], dtype=np.float64)
    if shear.ndim == 2:
        return shear
    matrix = np.eye(len(transforms["scale"]))
    matrix[np.triu_indices(len(matrix), 1)] = shear
    return matrix


def _stretched(transforms: dict[str, Any], axis: int, start: float, factor: float) -> dict[str, Any]:
    """The transforms with voxels stretched by `factor` along one axis, the first one centred at voxel `start`."""
    scale = np.array(transforms["scale"], dtype=np.float64)
    step = np.asarray(transforms["rotate"]) @ _shear(transforms)[:, axis] * scale[axis]
    scale[axis] *= factor
    return transforms | {"scale": scale, "translate": np.asarray(transforms["translate"]) + start * step}


def _first_is_apart(transforms: dict[str, Any]) -> bool:
    """Whether no rotation, shear or affine mixes the first axis with others."""
    matrices = [transforms["rotate"], _shear(transforms), transforms["affine"][:-1, :-1]]
    return all(not np.any([matrix[0, 1:], matrix[1:, 0]]) for matrix in matrices)


def _without_first(transforms: dict[str, Any]) -> dict[str, Any]:
    """The transforms without those of the first axis."""
    without = {name: transforms[name][1:] for name in ("scale", "translate", "units", "axis_labels")}
    matrices = {"rotate": transforms["rotate"], "shear": _shear(transforms), "affine": transforms["affine"]}
    return without | {name: matrix[1:, 1:] for name, matrix in matrices.items()}
