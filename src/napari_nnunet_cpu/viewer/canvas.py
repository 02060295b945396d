"""The viewer behind the stand-in that plugins get, and its canvas, where napari leaves something to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.viewer import Viewer

if TYPE_CHECKING:
    from napari.components import ViewerModel


def unwrapped(viewer: ViewerModel) -> ViewerModel:
    """The viewer itself: napari gives a plugin's widget a stand-in, which hands out further stand-ins for layers."""
    return getattr(viewer, "__wrapped__", viewer)


def window_of(viewer: ViewerModel) -> Any:
    """The viewer's window; None for a `ViewerModel`, which has none."""
    return getattr(viewer, "window", None)


def guard_contexts() -> None:
    """Let every open window delete what it drew of a layer in its own OpenGL context, from now on.

    napari has vispy delete the textures and programs of a removed layer at once, in whichever context is current
    (`napari/_vispy/canvas.py`, `_clean_and_update_scenegraph`): in none, or in that of another window, which then lacks
    what has the same numbers there. The process crashes when the next frame is drawn. While a run refreshes its labels
    the window that is current is a matter of chance.
    """
    for viewer in Viewer._instances:
        window = window_of(viewer)
        viewer.layers.events.removing.connect(window._qt_viewer.canvas._scene_canvas.set_current)
