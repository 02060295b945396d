"""Follow the focus of the viewer while the user moves sliders and camera."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_nnunet_cpu.errors import NNUNetCPUError
from napari_nnunet_cpu.predict import Focus
from napari_nnunet_cpu.viewer.image.layers import LayerImage
from napari_nnunet_cpu.viewer.image.view_state import focus_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image


class FocusWatch:
    """Reports the focus at once and whenever it changes, between `start` and `stop`.

    `layer` is the source of `image`. `tell` gets the focus from `focus_of`, or None if there is none.
    """

    def __init__(
        self, viewer: ViewerModel, layer: Image, image: LayerImage, tell: Callable[[Focus | None], None]
    ) -> None:
        self._viewer = viewer
        self._layer = layer
        self._image = image
        self._tell = tell

    def start(self) -> None:
        """Begin to report the focus."""
        self.stop()
        for emitter in self._emitters:
            emitter.connect(self._look)
        self._look()

    def stop(self) -> None:
        """Stop reporting it."""
        for emitter in self._emitters:
            emitter.disconnect(self._look)

    @property
    def _emitters(self) -> tuple[Any, ...]:
        dims, camera = self._viewer.dims.events, self._viewer.scene.camera.events
        return dims.point, dims.ndisplay, dims.order, camera.center

    def _look(self, _: Any = None) -> None:
        try:
            focus = focus_of(self._viewer, self._layer, self._image)
        except (ValueError, IndexError, NNUNetCPUError):  # because the layer may have other axes by now
            focus = None
        self._tell(focus)
