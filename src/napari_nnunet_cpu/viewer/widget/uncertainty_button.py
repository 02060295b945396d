"""The button that walks through the slices, the most uncertain first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from magicgui.widgets import PushButton
from qtpy.compat import isalive

from napari_nnunet_cpu.errors import NNUNetCPUError
from napari_nnunet_cpu.viewer.results import UncertainSlices, uncertainty_layer_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image


class UncertaintyButton(PushButton):
    """Goes to the most uncertain slice that was not visited; visible if there is an uncertainty layer.

    The layer is that of the selected labels, or the previous one if these have none. `say` takes a message, and whether
    it is an error.
    """

    def __init__(self, viewer: ViewerModel, say: Callable[[str, bool], None]) -> None:
        super().__init__(text="Next uncertain slice", visible=False)
        self._viewer = viewer
        self._say = say
        self._layer: Image | None = None
        self._slices: UncertainSlices | None = None
        self.clicked.connect(self._next)
        viewer.layers.selection.events.active.connect(self._follow)
        viewer.layers.events.removed.connect(self._follow)

    def show_uncertainty(self, layer: Image | None) -> None:
        """Walk through this uncertainty layer from now on; None for no layer."""
        if self._slices is not None:
            self._slices.close()
        self._layer = layer
        self._slices = None if layer is None else UncertainSlices(self._viewer, layer)
        self.tooltip = "" if layer is None else f"of {layer.name}"
        self.visible = layer is not None

    def _follow(self, _: Any = None) -> None:
        """Take the uncertainty layer of the selected labels; no layer once it is removed."""
        if not isalive(self.native):
            return
        before = self._layer if self._layer in self._viewer.layers else None
        found = uncertainty_layer_of(self._viewer, self._viewer.layers.selection.active) or before
        if found is not self._layer:
            self.show_uncertainty(found)

    def _next(self) -> None:
        if self._slices is None:
            return
        try:
            if self._slices.next() is None:
                self._say("every uncertain slice was on screen", False)
        except NNUNetCPUError as error:
            self._say(str(error), True)
