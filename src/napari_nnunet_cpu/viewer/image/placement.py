"""Where labels lie: exactly on their image, whatever became of its channel and time axes."""

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
    """The grid of an image layer, and that of its labels.

    Labels have no channels. napari lines up layers of fewer axes with the last axes of the world,
    so that a channel axis which comes first can be left out. Any other one stays, as one voxel that
    reaches over all channels.

    Attributes
    ----------
    axes : Axes
        Of the image layer.
    shape : tuple of int
        Of the image layer, colours not counted.
    transforms : dict
        The image layer's place in the world, as keyword arguments of a new layer.
    """

    axes: Axes
    shape: tuple[int, ...]
    transforms: dict[str, Any]

    def labels_shape(self, times: Sequence[int]) -> tuple[int, ...]:
        """Shape of the labels layer of these time points."""
        shape = list(self.shape)
        if self.axes.time is not None:
            shape[self.axes.time] = len(times)
        if self.axes.channel is not None:
            shape[self.axes.channel] = 1
        return tuple(shape[self._first_kept :])

    def index(self, number: int, part: tuple[slice, ...] | None = None) -> tuple[int | slice, ...]:
        """Where labels of the `number`-th time point go in an array of `labels_shape`: all of them, or a part.

        The part has a slice for each of the layer's axes of space.
        """
        index: list[int | slice] = [slice(None)] * len(self.shape)
        for axis, side in zip(self.axes.space, part or (), strict=part is not None):
            index[axis] = side
        if self.axes.time is not None:
            index[self.axes.time] = number
        if self.axes.channel is not None:
            index[self.axes.channel] = 0
        return tuple(index[self._first_kept :])

    def first(self, count: int) -> tuple[slice, ...]:
        """The part of an array of `labels_shape` that holds the first `count` time points."""
        index = [slice(None)] * len(self.shape)
        if self.axes.time is not None:
            index[self.axes.time] = slice(count)
        return tuple(index[self._first_kept :])

    def labels_transforms(self, times: Sequence[int]) -> dict[str, Any]:
        """The place in the world of the labels of these time points, which follow each other."""
        transforms = dict(self.transforms)
        if self.axes.time is not None:
            transforms = _stretched(transforms, self.axes.time, start=times[0], factor=1)
        if self.axes.channel is not None and not self._first_kept:
            count = self.shape[self.axes.channel]
            transforms = _stretched(transforms, self.axes.channel, start=(count - 1) / 2, factor=count)
        return _without_first(transforms) if self._first_kept else transforms

    @property
    def _first_kept(self) -> int:
        """1 where the first axis is that of the channels and can be left out, else 0."""
        return int(self.axes.channel == 0 and _first_is_apart(self.transforms))


def layer_placement(layer: Image, axes: Axes, shape: tuple[int, ...]) -> Placement:
    """The placement of a layer; what happens to the layer afterwards does not matter."""
    transforms = {name: getattr(layer, name) for name in _TRANSFORMS}
    # The affine as a copy: napari would share the object, and moving one layer would move the other.
    return Placement(axes, shape, transforms | {"affine": layer.affine.affine_matrix.copy()})


def _shear(transforms: dict[str, Any]) -> npt.NDArray[np.float64]:
    """The shear as a matrix: napari gives the part above the diagonal where that is all."""
    shear = np.asarray(transforms["shear"], dtype=np.float64)
    if shear.ndim == 2:
        return shear
    matrix = np.eye(len(transforms["scale"]))
    matrix[np.triu_indices(len(matrix), 1)] = shear
    return matrix


def _stretched(transforms: dict[str, Any], axis: int, start: float, factor: float) -> dict[str, Any]:
    """The transforms with voxels `factor` times as long along one axis, the first one centred at voxel `start`."""
    scale = np.array(transforms["scale"], dtype=np.float64)
    step = np.asarray(transforms["rotate"]) @ _shear(transforms)[:, axis] * scale[axis]
    scale[axis] *= factor
    return transforms | {"scale": scale, "translate": np.asarray(transforms["translate"]) + start * step}


def _first_is_apart(transforms: dict[str, Any]) -> bool:
    """Whether no rotation, shear or affine mixes the first axis with the others."""
    matrices = [transforms["rotate"], _shear(transforms), transforms["affine"][:-1, :-1]]
    return all(not np.any([matrix[0, 1:], matrix[1:, 0]]) for matrix in matrices)


def _without_first(transforms: dict[str, Any]) -> dict[str, Any]:
    """The transforms of all axes but the first."""
    without = {name: transforms[name][1:] for name in ("scale", "translate", "units", "axis_labels")}
    matrices = {"rotate": transforms["rotate"], "shear": _shear(transforms), "affine": transforms["affine"]}
    return without | {name: matrix[1:, 1:] for name, matrix in matrices.items()}
