"""What the user has at hand: only what was asked for comes to the front, and only while nothing else was taken up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_nnunet_cpu.viewer.canvas import unwrapped

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_NO_TOOL = "pan_zoom"


class Foreground:
    """The layers that are selected now, to be compared with those that are later.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Where they are.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._selected = set(viewer.layers.selection)

    def left_for(self, layer: Layer | None) -> bool:
        """Whether the user has since selected another layer than this one, or has a tool of a layer in hand."""
        now = self._viewer.layers.selection
        if now.active is not None and now.active.mode != _NO_TOOL:
            return True
        return not set(now) - {layer} <= self._selected


def add_unselected(viewer: ViewerModel, layer: Layer) -> None:
    """Add a layer on top and leave the selection alone.

    To select the old layer again would not do: the controls of its tools and a name that is being typed in the list of
    layers would be gone.
    """
    layers = unwrapped(viewer).layers
    layers._activate_on_insert = False  # napari has no public way
    try:
        layers.append(layer)
    finally:
        layers._activate_on_insert = True
