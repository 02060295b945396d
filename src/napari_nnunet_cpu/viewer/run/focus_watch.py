"""Follow the focus of the viewer while the user moves sliders and camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_nnunet_cpu.errors import NNUNetCPUError
from napari_nnunet_cpu.predict import RunControl
from napari_nnunet_cpu.viewer.image import LayerImage, focus_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image


class FocusWatch:
    """Sets the focus of a run at once and whenever it changes, between `start` and `stop`.

    `layer` is the source of `image`. The focus is that of `focus_of`, or None if there is none.
    """

    def __init__(self, viewer: ViewerModel, layer: Image, image: LayerImage, control: RunControl) -> None:
        self._viewer = viewer
        self._layer = layer
        self._image = image
        self._control = control

    def start(self) -> None:
        """Begin to follow the focus."""
        self.stop()
        for emitter in self._emitters:
            emitter.connect(self._look)
        self._look()

    def stop(self) -> None:
        """Stop following it."""
        for emitter in self._emitters:
            emitter.disconnect(self._look)

    @property
    def _emitters(self) -> tuple[Any, ...]:
        dims, camera = self._viewer.dims.events, self._viewer.scene.camera.events
        return dims.point, dims.ndisplay, dims.order, camera.center

    def _look(self, _: Any = None) -> None:
        try:
            self._control.focus = focus_of(self._viewer, self._layer, self._image)
        except (ValueError, IndexError, NNUNetCPUError):  # because the layer may have other axes by now
            self._control.focus = None
