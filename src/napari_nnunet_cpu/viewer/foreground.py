"""Bring a result to the front only if the user did not turn to other work in the meantime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_nnunet_cpu.viewer.canvas import unwrapped

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_NO_TOOL = "pan_zoom"


class Foreground:
    """Remembers which layers of a viewer are selected, to notice later that the user turned to others."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._selected = set(viewer.layers.selection)

    def left_for(self, layer: Layer | None) -> bool:
        """Whether the user has selected another layer than `layer` since, or holds a tool of a layer."""
        now = self._viewer.layers.selection
        if now.active is not None and now.active.mode != _NO_TOOL:
            return True
        return not set(now) - {layer} <= self._selected


def add_unselected(viewer: ViewerModel, layer: Layer) -> None:
    """Add a layer on top without changing the selection.

    Selecting the previous layer again is not enough, because its tool controls, and a name that the user types in the
    list of layers, would be reset.
    """
    layers = unwrapped(viewer).layers
    layers._activate_on_insert = False  # because napari has no public option
    try:
        layers.append(layer)
    finally:
        layers._activate_on_insert = True
