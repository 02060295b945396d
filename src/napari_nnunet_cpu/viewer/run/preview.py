"""The preview: a read-only layer in which labels appear as they become final."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from superqt.utils import qthrottled
from vispy.visuals import LineVisual

from napari_nnunet_cpu.viewer.canvas import guard_contexts
from napari_nnunet_cpu.viewer.image import LayerImage, voxel_shown
from napari_nnunet_cpu.viewer.results import LayerResult, add_with_names, bind, label_colors, labels_name
from napari_nnunet_cpu.viewer.run.layer_segmentation import FinalLabels

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_nnunet_cpu.viewer.results import Origin

# Refreshing a large slice takes half of this time.
_REFRESH_MS = 300
# vispy prepares such lines when the first one is made. It is made here, because the first layer makes one and would
# freeze the window.
LineVisual(np.zeros((2, 2)), method="agg")


class Preview:
    """Paints final labels into a layer of its own, and refreshes it a few times per second.

    For the main thread only. Adding a layer takes napari a good part of a second, and much longer while the network
    computes. So the layer is added before the run, and becomes the layer of the result. `layer` is None before `show`,
    and after `become` or `remove`; `painted` says whether it holds labels.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: LayerImage,
        names: dict[int, str],
        dtype: Any,
        origin: Origin | None = None,
        visible: bool = True,
    ) -> None:
        self.layer: Labels | None = None
        self._viewer = viewer
        self._image = image
        self._names = names
        self._dtype = dtype
        self._origin = origin
        self._visible = visible
        self.painted = False
        self._stale = False
        self._refresh = qthrottled(self._refresh_now, timeout=_REFRESH_MS)

    def show(self) -> None:
        """Add the layer, if it is not in the viewer."""
        if self.layer is None or not self.shown:
            self.layer, self.painted = self._made(), False

    def paint(self, final: FinalLabels) -> None:
        """Paint final labels, unless the user removed the layer."""
        if self.layer is None:
            return
        self.layer.data[final.place] = final.labels
        self.painted = True
        if self._stale or self._in_view(final):
            self._stale = True
            if self._viewer.dims.ndisplay == 2:  # because in 3D napari uploads the whole volume, which takes seconds
                self._refresh()

    def finish(self) -> None:
        """Show all painted labels."""
        self._refresh.cancel()
        if self._stale:
            self._refresh_now()

    def become(self, result: LayerResult) -> Labels | None:
        """Turn the layer into that of the result; None if the user removed it."""
        self._refresh.cancel()
        layer, self.layer, self.painted = self.layer, None, False
        if layer is None or layer not in self._viewer.layers:
            return None
        layer.data[...] = result.labels
        layer.metadata = self._image.metadata | {"nnunet": result.provenance}
        layer.name = labels_name(self._image)
        layer.editable = True
        bind(layer, result.origin)
        layer.refresh()
        return layer

    def remove(self) -> None:
        """Remove the layer."""
        self._refresh.cancel()
        if self.layer is not None and self.shown:
            self._viewer.layers.remove(self.layer)
        self.layer, self.painted = None, False

    @property
    def shown(self) -> bool:
        """Whether the layer is in the viewer."""
        return self.layer is not None and self.layer in self._viewer.layers

    def _made(self) -> Labels:
        placement, times = self._image.placement, self._image.times
        layer = Labels(
            np.zeros(placement.labels_shape(times), dtype=self._dtype),
            name=f"{self._image.name} (preview)",
            colormap=label_colors(self._names),
            visible=self._visible,
            **placement.labels_transforms(times),
        )
        layer.editable = False
        bind(layer, self._origin)
        return add_with_names(self._viewer, layer, self._names)

    def _in_view(self, final: FinalLabels) -> bool:
        """Whether the slice on screen shows a part of these labels."""
        if self.layer is None or self._viewer.dims.ndisplay == 3:
            return True
        if not self.layer.visible:  # because napari slices it again when it becomes visible
            return False
        point = voxel_shown(self._viewer, self.layer)
        first = self._viewer.dims.ndim - self.layer.ndim
        for axis, side in enumerate(final.place):
            if axis + first in self._viewer.dims.displayed:
                continue
            place = round(point[axis])
            start, stop = (side, side + 1) if isinstance(side, int) else (side.start or 0, side.stop)
            if stop is not None and not start <= place < stop:
                return False
        return True

    def _refresh_now(self) -> None:
        self._stale = False
        if self.layer is not None and self.shown:
            guard_contexts()
            self.layer.refresh()
