"""The real viewer behind a plugin's proxy, and a workaround for a crash of its canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.viewer import Viewer

if TYPE_CHECKING:
    from napari.components import ViewerModel


def unwrapped(viewer: ViewerModel) -> ViewerModel:
    """The real viewer, because napari gives plugins a proxy, which also returns proxies for layers."""
    return getattr(viewer, "__wrapped__", viewer)


def window_of(viewer: ViewerModel) -> Any:
    """The window of a viewer; None for a `ViewerModel`, which has no window."""
    return getattr(viewer, "window", None)


def guard_contexts() -> None:
    """From now on, let every open window delete the graphics of its layers in its own OpenGL context.

    When a layer is removed, napari lets vispy delete its textures and programs in the current context
    (`napari/_vispy/canvas.py`, `_clean_and_update_scenegraph`). This may be no context, or that of another window,
    which then loses objects with the same numbers, and the process crashes at the next frame. During a run the current
    window is random, because preview labels refresh all the time.
    """
    for viewer in Viewer._instances:
        window = window_of(viewer)
        viewer.layers.events.removing.connect(window._qt_viewer.canvas._scene_canvas.set_current)
