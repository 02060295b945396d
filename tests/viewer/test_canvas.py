"""Removing a layer of one of two windows leaves the other's textures alone."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtGui import QOpenGLContext
from vispy.gloo.glir import GlirTexture

from napari_nnunet_cpu.viewer.canvas import guard_contexts


@pytest.mark.parametrize("last", ["own", "other"])
def test_textures_are_deleted_in_the_context_of_their_window(viewer, make_napari_viewer, monkeypatch, last) -> None:
    other = make_napari_viewer(show=True)
    for home in (viewer, other):
        home.add_image(np.ones((4, 8, 8), np.float32))
        home.add_labels(np.ones((4, 8, 8), np.uint8))
        home.screenshot()
    before = other.screenshot()
    deleted_in: list[QOpenGLContext | None] = []
    delete = GlirTexture.delete

    def told(texture: GlirTexture) -> None:
        deleted_in.append(QOpenGLContext.currentContext())
        delete(texture)

    monkeypatch.setattr(GlirTexture, "delete", told)
    canvas = {home: home.window._qt_viewer.canvas._scene_canvas for home in (viewer, other)}
    canvas[viewer if last == "own" else other].set_current()
    guard_contexts()
    viewer.layers.pop()
    assert deleted_in
    assert set(deleted_in) == {canvas[viewer].native.context()}
    np.testing.assert_array_equal(other.screenshot(), before)
