"""The viewer's canvas, where napari leaves something to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


def remove_layer(viewer: ViewerModel, layer: Layer) -> None:
    """Remove a layer from its viewer, safely where there are several windows.

    napari has vispy delete the layer's textures and programs at once, in whichever OpenGL context is current
    (`napari/_vispy/canvas.py`, `_clean_and_update_scenegraph`). With two windows that can be the other's, which then
    lacks what has the same numbers there, and crashes the process when it is drawn next.
    """
    viewer = getattr(viewer, "__wrapped__", viewer)  # a widget gets a stand-in, which warns of what is not public
    window = getattr(viewer, "window", None)
    if window is not None:
        window._qt_viewer.canvas._scene_canvas.set_current()
    viewer.layers.remove(layer)
