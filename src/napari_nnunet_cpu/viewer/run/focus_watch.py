"""Follows what is looked at of an image while the user moves sliders and camera."""

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
    """Tells what is looked at, at once and whenever that changes, between `start` and `stop`.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Whose sliders and camera are followed.
    layer : Image
        What `image` is a snapshot of.
    image : LayerImage
        Says which axis is which.
    tell : callable
        Given the focus, as `focus_of` finds it; None where there is none.
    """

    def __init__(
        self, viewer: ViewerModel, layer: Image, image: LayerImage, tell: Callable[[Focus | None], None]
    ) -> None:
        self._viewer = viewer
        self._layer = layer
        self._image = image
        self._tell = tell

    def start(self) -> None:
        """Begin to tell."""
        self.stop()
        for emitter in self._emitters:
            emitter.connect(self._look)
        self._look()

    def stop(self) -> None:
        """Tell no more."""
        for emitter in self._emitters:
            emitter.disconnect(self._look)

    @property
    def _emitters(self) -> tuple[Any, ...]:
        dims, camera = self._viewer.dims.events, self._viewer.scene.camera.events
        return dims.point, dims.ndisplay, dims.order, camera.center

    def _look(self, _: Any = None) -> None:
        try:
            focus = focus_of(self._viewer, self._layer, self._image)
        except (ValueError, IndexError, NNUNetCPUError):  # the layer was changed to other axes meanwhile
            focus = None
        self._tell(focus)
