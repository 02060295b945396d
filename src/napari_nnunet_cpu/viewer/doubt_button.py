"""The button that leads through the slices by their doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from magicgui.widgets import PushButton

from napari_nnunet_cpu.errors import NNUNetCPUError
from napari_nnunet_cpu.viewer.doubt import DoubtfulSlices

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image


class DoubtButton(PushButton):
    """Goes to the slice that is most in doubt of those that were not on screen yet; shown where there is a doubt.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Whose slider is moved.
    say : callable
        Told a message, and whether it is an error.
    """

    def __init__(self, viewer: ViewerModel, say: Callable[[str, bool], None]) -> None:
        super().__init__(text="Next doubtful slice", visible=False)
        self._viewer = viewer
        self._say = say
        self._slices: DoubtfulSlices | None = None
        self.clicked.connect(self._next)

    def show_doubt(self, layer: Image | None) -> None:
        """Lead through this layer of doubt from now on; through none when None."""
        if self._slices is not None:
            self._slices.close()
        self._slices = None if layer is None else DoubtfulSlices(self._viewer, layer)
        self.visible = layer is not None

    def _next(self) -> None:
        if self._slices is None:
            return
        try:
            if self._slices.next() is None:
                self._say("every slice in doubt was on screen", False)
        except NNUNetCPUError as error:
            self._say(str(error), True)
