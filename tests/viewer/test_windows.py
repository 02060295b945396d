"""A run belongs to its window and its panel, and layers may be removed while it goes on."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import PATIENCE_MS, messages
from napari._qt.qt_main_window import _QtMainWindow
from napari.utils.task_status import Status
from qtpy.QtCore import QEvent, QThreadPool
from qtpy.QtGui import QOpenGLContext
from qtpy.QtWidgets import QApplication
from vispy.gloo.glir import GlirTexture

from napari_nnunet_cpu import Settings, segment_layer
from napari_nnunet_cpu.viewer.widget.widget import SegmentWidget


def raise_window(viewer) -> None:
    """Make it the one that napari takes for the current one."""
    windows = _QtMainWindow._instances
    windows.append(windows.pop(windows.index(viewer.window._qt_window)))


@pytest.fixture
def other(viewer, make_napari_viewer, image):
    """A second window, with layers of every kind that is drawn in another way."""
    other = make_napari_viewer(show=True)
    other.add_image(image, name="theirs")
    other.add_labels((image > 100).astype(np.uint8))
    other.add_points(np.array([[3.0, 4, 5]]))
    return other


@pytest.fixture
def running(viewer, widget, choose, gated, model_folder, image) -> SegmentWidget:
    """A run of the first window that has computed a few tiles, and shows labels."""
    viewer.add_image(image + 1000, name="scan")
    viewer.add_labels((image > 100).astype(np.uint8), name="mine")
    viewer.add_points(np.array([[3.0, 4, 5]]), name="points")
    viewer.add_shapes([[[4, 6, 6], [4, 6, 14], [4, 12, 14], [4, 12, 6]]], name="region")
    choose(model_folder)
    widget.channels.boxes[0].value = viewer.layers["scan"]
    widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    return widget


@pytest.fixture
def painted(viewer, gated, running, qtbot) -> SegmentWidget:
    """The same, with labels that are final."""
    while not running.live.preview.painted:
        gated.let(1)
        qtbot.waitUntil(lambda: running.progress.value >= gated.passes - 1, timeout=PATIENCE_MS)
    return running


@pytest.mark.parametrize("front", ["own", "other"])
def test_closing_another_window_leaves_the_run_alone(viewer, other, running, finish, gated, qtbot, front: str) -> None:
    raise_window(viewer if front == "own" else other)
    behind = running.run_in_background()
    running.model.read()  # its worker belongs to no window
    gated.let(2)
    other.close()
    gated.let(2)
    gated.gate.set()
    finish()
    qtbot.waitUntil(lambda: not behind.running, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: bool(running.model.models), timeout=PATIENCE_MS)
    for name in ("scan labels", "scan labels [1]"):
        assert (viewer.layers[name].data == 2).all()
    assert running.status.value.startswith("done in ")
    viewer.screenshot()
    assert messages() == []


@pytest.mark.parametrize("front", ["own", "other"])
def test_closing_the_window_cancels_its_run_alone(
    viewer, other, painted, gated, model_folder, qtbot, front: str
) -> None:
    raise_window(viewer if front == "own" else other)
    live, names = painted.live, [layer.name for layer in other.layers]
    theirs = segment_layer(other, "theirs", model_folder, Settings.fast(), block=False)
    qtbot.waitUntil(lambda: len(other.layers) == len(names) + 1, timeout=PATIENCE_MS)
    viewer.close()
    passes = gated.passes
    gated.allowed.release()
    qtbot.waitUntil(lambda: not live.running, timeout=PATIENCE_MS)
    assert live.labels is None
    gated.gate.set()
    assert theirs.wait() is other.layers["theirs labels"]
    assert gated.passes > passes
    other.screenshot()
    assert messages() == []


def test_windows_closed_with_the_mouse(tmp_path) -> None:
    script = Path(__file__).with_name("three_windows.py")
    paths = [*sys.path, str(script.parent), str(script.parent.parent)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "NAPARI_NNUNET_CPU_CACHE": str(tmp_path / "cache"),
    }
    ended = subprocess.run(
        [sys.executable, script, tmp_path], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_window_knows_its_tasks(viewer, other, running, gated, finish) -> None:
    raise_window(other)
    assert viewer.window._task_status_manager.get_status() == ["napari-nnunet-cpu: segmenting scan"]
    assert other.window._task_status_manager.get_status() == []
    gated.gate.set()
    finish()
    assert not viewer.window._task_status_manager.is_busy()
    states = [item.state()[2] for item in viewer.window._task_status_manager._tasks.values()]
    assert states.count(Status.COMPLETED) >= 1


def close_dock(viewer, widget) -> None:
    """As its cross does."""
    (dock,) = viewer.window._wrapped_dock_widgets.values()
    dock.destroyOnClose()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def test_closing_the_panel_cancels_and_keeps_what_is_final(viewer, painted, gated, qtbot, image, model_folder) -> None:
    live, behind = painted.live, painted.run_in_background()
    close_dock(viewer, painted)
    gated.gate.set()
    qtbot.waitUntil(lambda: not live.running and not behind.running, timeout=PATIENCE_MS)
    assert [layer.name for layer in viewer.layers] == ["scan", "mine", "points", "region", "scan labels"]
    kept = viewer.layers["scan labels"]
    assert kept.editable
    assert kept.visible
    assert set(np.unique(kept.data)) == {0, 2}
    assert viewer.layers.selection.active is viewer.layers["region"]
    stopped = "scan: the run was cancelled because its panel was closed; "
    assert sorted(messages()) == [stopped + "nothing was finished", stopped + "the finished labels are in scan labels"]
    # A panel that is opened anew is ready.
    _, widget = viewer.window.add_plugin_dock_widget("napari-nnunet-cpu", "nnU-Net segmentation")
    assert not widget.running
    gc.collect()


def test_closing_the_panel_after_a_cancelled_run_keeps_it_too(viewer, painted, gated, finish) -> None:
    painted.cancel()
    gated.allowed.release()
    finish()
    close_dock(viewer, painted)
    assert [layer.name for layer in viewer.layers][4:] == ["scan labels"]
    assert messages() == [
        "scan: the run was cancelled because its panel was closed; the finished labels are in scan labels"
    ]


def test_closing_the_panel_when_all_is_done_says_nothing(viewer, running, gated, finish) -> None:
    gated.gate.set()
    finish()
    close_dock(viewer, running)
    assert messages() == []
    assert "scan labels" in viewer.layers


def test_a_hidden_panel_goes_on(viewer, running, gated, finish) -> None:
    (dock,) = viewer.window._wrapped_dock_widgets.values()
    dock.close()
    dock.show()
    dock.setFloating(True)
    dock.setFloating(False)
    gated.gate.set()
    finish()
    assert (viewer.layers["scan labels"].data == 2).all()
    assert messages() == []


def test_closing_window_and_panel_at_once(viewer, painted, gated, qtbot) -> None:
    live = painted.live
    close_dock(viewer, painted)
    viewer.close()
    gated.gate.set()
    qtbot.waitUntil(lambda: not live.running, timeout=PATIENCE_MS)
    assert QThreadPool.globalInstance().waitForDone(PATIENCE_MS)
    assert messages() == []


def test_keeping_time_points_that_are_done(viewer, widget, choose, finish, gated, one, channels, qtbot) -> None:
    viewer.add_image(channels + 1000, name="film", axis_labels=("time", "z", "y", "x"), translate=(5, 0, 0, 0))
    choose(one)
    widget.channels.time.value = "all"
    live = widget.run()
    second = []
    live.progressed.connect(
        lambda event: second.append(event) if "2 of 3" in event.text and "tiles" in event.text else 0
    )
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    while not second:
        gated.let(1)
        qtbot.wait(1)
    widget.cancel()
    gated.allowed.release()
    finish()
    widget.keep_button.clicked.emit(True)
    kept = viewer.layers["film labels"]
    assert kept.data.shape == (1, *channels.shape[1:])
    assert (kept.data == 2).all()
    assert kept.translate[0] == 5
    assert kept.metadata["nnunet"]["image"]["time_points"] == [0]
    assert [layer.name for layer in viewer.layers] == ["film", "film labels"]
    gated.gate.set()
    widget.run()
    finish()
    assert viewer.layers["film labels [1]"].data.shape == channels.shape


def remove(*names: str) -> Callable:
    def remove(viewer) -> None:
        for name in names:
            viewer.layers.remove(name)

    return remove


def remove_selected(viewer) -> None:
    viewer.layers.selection = set(list(viewer.layers)[:3])
    viewer.layers.remove_selected()


def remove_all(viewer) -> None:
    viewer.layers.clear()


@pytest.fixture
def deleted_in(monkeypatch) -> list[QOpenGLContext | None]:
    """The OpenGL contexts in which textures were deleted."""
    contexts: list[QOpenGLContext | None] = []
    delete = GlirTexture.delete

    def told(texture: GlirTexture) -> None:
        contexts.append(QOpenGLContext.currentContext())
        delete(texture)

    monkeypatch.setattr(GlirTexture, "delete", told)
    return contexts


@pytest.mark.parametrize(
    ("away", "ndisplay"),
    [(remove("scan", "mine", "points", "region", "scan (preview)"), 2), (remove_selected, 3), (remove_all, 3)],
    ids=["one-by-one", "selected", "all"],
)
def test_layers_may_be_removed_during_a_run(
    viewer, painted, gated, finish, deleted_in, away: Callable, ndisplay: int
) -> None:
    viewer.dims.ndisplay = ndisplay
    viewer.screenshot()
    native = viewer.window._qt_viewer.canvas._scene_canvas.native
    native.doneCurrent()  # as it is by chance
    away(viewer)
    assert set(deleted_in) == {native.context()}
    gated.let(2)
    viewer.screenshot()
    gated.gate.set()
    finish()
    viewer.screenshot()
    assert (viewer.layers["scan labels"].data == 2).all()
    native.doneCurrent()
    viewer.layers.remove("scan labels")
    assert set(deleted_in) == {native.context()}
    viewer.screenshot()
    assert messages() == []


def test_layers_of_a_window_without_a_run(viewer, other, painted, gated, finish, deleted_in) -> None:
    """The refreshes of the one window leave its context current when layers of the other go."""
    native = other.window._qt_viewer.canvas._scene_canvas.native
    other.screenshot()
    viewer.window._qt_viewer.canvas._scene_canvas.set_current()
    other.layers.clear()
    assert set(deleted_in) == {native.context()}
    gated.gate.set()
    finish()
