"""What a run brings comes to the front only where it was asked for; else nothing changes but the list of layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import PATIENCE_MS, messages
from napari.components import ViewerModel
from napari.layers import Image, Labels
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication
from random_model import RandomModel

from napari_nnunet_cpu import Settings, segment_layer


class Brush:
    """The mouse on the canvas of a window, its left button down from `press` to `release`."""

    def __init__(self, viewer) -> None:
        self._native = viewer.window._qt_viewer.canvas._scene_canvas.native

    def _send(self, kind: QEvent.Type, x: float, y: float, button, buttons) -> None:
        at = QPointF(self._native.width() * x, self._native.height() * y)
        QApplication.sendEvent(
            self._native,
            QMouseEvent(kind, at, QPointF(self._native.mapToGlobal(at)), button, buttons, Qt.KeyboardModifier(0)),
        )

    def press(self, x: float, y: float) -> None:
        left = Qt.MouseButton.LeftButton
        self._send(QEvent.Type.MouseMove, x, y, Qt.MouseButton.NoButton, Qt.MouseButton.NoButton)
        self._send(QEvent.Type.MouseButtonPress, x, y, left, left)

    def move(self, x: float, y: float) -> None:
        self._send(QEvent.Type.MouseMove, x, y, Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton)

    def release(self, x: float, y: float) -> None:
        self._send(QEvent.Type.MouseButtonRelease, x, y, Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton)


def seen(viewer) -> tuple:
    """All that the user sees and holds, but for layers that came."""
    selection = viewer.layers.selection
    return (
        set(selection),
        selection.active,
        selection._current,
        {layer: (layer.mode, layer.visible, layer.name) for layer in viewer.layers if layer.name in NAMES},
        viewer.dims.point,
        viewer.dims.order,
        viewer.dims.ndisplay,
        viewer.cursor.style,
        viewer.scene.camera.center,
        viewer.scene.camera.zoom,
    )


NAMES = ("first", "second", "mine", "points")


@pytest.fixture
def desk(viewer, widget, choose, model_folder, image):
    """Two images and a layer to paint in, on a slice of their own."""
    viewer.add_image(image + 1000, name="first")
    viewer.add_image(image + 2000, name="second")
    viewer.add_points(np.array([[3.0, 4, 5]]), name="points")
    mine = viewer.add_labels(np.zeros(image.shape, np.uint8), name="mine")
    choose(model_folder)
    widget.channels.boxes[0].value = viewer.layers["second"]
    viewer.dims.set_current_step(0, 7)
    return mine


@pytest.fixture
def clear(viewer, gated) -> Callable[[], None]:
    """Make ready for another run."""

    def clear() -> None:
        for layer in [layer for layer in viewer.layers if layer.name not in NAMES]:
            viewer.layers.remove(layer)
        gated.gate.clear()
        while gated.entered.acquire(blocking=False):
            pass

    return clear


def test_a_stroke_is_not_interrupted(viewer, widget, gated, desk, qtbot) -> None:
    behind = widget.run_in_background()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    viewer.layers.selection.active = desk
    desk.mode = "paint"
    desk.brush_size = 1
    brush, before = Brush(viewer), seen(viewer)
    brush.press(0.4, 0.5)
    brush.move(0.45, 0.5)
    started = np.count_nonzero(desk.data)
    assert started
    gated.gate.set()
    qtbot.waitUntil(lambda: not behind.running, timeout=PATIENCE_MS)
    brush.move(0.55, 0.5)
    brush.move(0.6, 0.5)
    brush.release(0.6, 0.5)
    assert seen(viewer) == before
    line = np.flatnonzero(desk.data[7].any(axis=0))
    assert len(line) > started + 1
    assert np.array_equal(line, np.arange(line[0], line[-1] + 1))  # one stroke, without a gap
    desk.undo()
    assert not desk.data.any()  # and one step
    labels = viewer.layers["second labels"]
    assert (labels.data == 2).all()
    assert not labels.visible
    assert widget.queue_button.note.value == "second: second labels is not selected, and hidden"
    labels.visible = True
    assert widget.queue_button.note.value == ""
    assert messages() == []


TOOLS = {"mine": ["paint", "polygon", "pan_zoom"], "points": ["add", "select"], "second": ["transform"]}


def test_whatever_is_in_hand_stays_in_hand(viewer, widget, gated, desk, qtbot, clear, subtests) -> None:
    widget.run_options.uncertainty.value = "margin"
    for name, modes in TOOLS.items():
        for mode in modes:
            with subtests.test(name, mode=mode):
                behind = widget.run_in_background()
                viewer.layers.selection.active = viewer.layers[name]
                viewer.layers[name].mode = mode
                before = seen(viewer)
                gated.gate.set()
                qtbot.waitUntil(lambda run=behind: not run.running, timeout=PATIENCE_MS)
                assert seen(viewer) == before
                assert [layer.name for layer in viewer.layers[4:]] == [
                    "second labels",
                    "second uncertainty (uncalibrated)",
                ]
                assert [layer.visible for layer in viewer.layers[4:]] == [False, False]
            clear()
            viewer.layers[name].mode = "pan_zoom"


def test_a_selection_of_several_layers_stays(viewer, widget, gated, desk, qtbot, clear) -> None:
    for chosen in (["first", "points"], []):
        behind = widget.run_in_background()
        viewer.layers.selection = {viewer.layers[name] for name in chosen}
        before = seen(viewer)
        gated.gate.set()
        qtbot.waitUntil(lambda run=behind: not run.running, timeout=PATIENCE_MS)
        assert seen(viewer) == before
        clear()


def image_of_another(viewer, widget, model_folder) -> None:
    widget.channels.boxes[0].value = viewer.layers["first"]


def model_of_another(viewer, widget, model_folder) -> None:
    widget.model.path.value = RandomModel(seed=7).write(model_folder / "other")


def other_layer(viewer, widget, model_folder) -> None:
    viewer.layers.selection.active = viewer.layers["points"]


def tool(viewer, widget, model_folder) -> None:
    viewer.layers["mine"].mode = "paint"


def nothing(viewer, widget, model_folder) -> None:
    pass


def the_preview(viewer, widget, model_folder) -> None:
    viewer.layers.selection.active = viewer.layers["second (preview)"]


def no_layer(viewer, widget, model_folder) -> None:
    viewer.layers.selection.clear()


@pytest.mark.parametrize("preview", ["shown", "hidden", "removed"])
def test_a_run_that_the_user_left_comes_in_the_background(
    viewer, widget, choose, finish, gated, desk, model_folder, qtbot, clear, subtests, preview: str
) -> None:
    widget.run_options.uncertainty.value = "margin"
    for meanwhile in (image_of_another, other_layer, tool, model_of_another):
        with subtests.test(meanwhile.__name__):
            viewer.layers.selection.active = desk
            desk.mode = "pan_zoom"
            widget.channels.boxes[0].value = viewer.layers["second"]
            widget.run()
            assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
            meanwhile(viewer, widget, model_folder)
            qtbot.waitUntil(lambda: not widget.model.problem.startswith("reading"), timeout=PATIENCE_MS)
            layer = viewer.layers["second (preview)"]
            if preview == "hidden":
                layer.visible = False
            elif preview == "removed":
                viewer.layers.remove(layer)
            before = seen(viewer)
            gated.gate.set()
            finish()
            assert seen(viewer) == before
            assert viewer.layers["second labels"].visible == (preview == "shown")
            assert not viewer.layers["second uncertainty (uncalibrated)"].visible
            assert "; second labels is not selected" in widget.status.value
            assert widget.status.value.endswith("hidden") == (preview != "shown")
        clear()


def test_a_run_that_was_waited_for_comes_to_the_front(
    viewer, widget, finish, gated, desk, model_folder, clear, subtests
) -> None:
    widget.run_options.uncertainty.value = "margin"
    for meanwhile in (nothing, the_preview, no_layer):
        with subtests.test(meanwhile.__name__):
            viewer.layers.selection.active = desk
            widget.run()
            assert viewer.layers.selection.active is desk
            meanwhile(viewer, widget, model_folder)
            gated.gate.set()
            finish()
            assert viewer.layers.selection.active is viewer.layers["second labels"]
            assert viewer.layers["second labels"].visible
            assert viewer.layers["second uncertainty (uncalibrated)"].visible
            assert "not selected" not in widget.status.value
        clear()


def test_a_hidden_preview_shows_what_is_final_once_it_is_shown(viewer, widget, gated, desk, image, qtbot) -> None:
    behind = widget.run_in_background()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    layer = viewer.layers["second (preview)"]
    assert not layer.visible
    painted = []
    behind.painted.connect(painted.append)
    while not painted:
        gated.let(1)
        qtbot.wait(1)
    layer.visible = True
    place = np.argwhere(layer.data)[0]
    viewer.dims.set_current_step(0, place[0])
    shown = np.asarray(layer._slice.image.raw)
    assert np.array_equal(shown, layer.data[place[0]])
    gated.gate.set()
    qtbot.waitUntil(lambda: not behind.running, timeout=PATIENCE_MS)
    assert viewer.layers["second labels"].visible  # as the user left it


def test_a_failure_in_the_background_is_told_beside_the_button(viewer, widget, gated, desk, qtbot) -> None:
    gated.error = ValueError("out of luck")
    behind = widget.run_in_background()
    gated.gate.set()
    qtbot.waitUntil(lambda: not behind.running, timeout=PATIENCE_MS)
    assert widget.queue_button.note.value == "second: out of luck"
    assert widget.status.value == ""
    assert messages() == ["second: out of luck"]
    gated.error = None
    behind = widget.run_in_background()
    assert widget.queue_button.note.value == ""
    qtbot.waitUntil(lambda: not behind.running, timeout=PATIENCE_MS)


def test_a_script_is_told(viewer, gated, model_folder, image) -> None:
    viewer.add_image(image + 1000, name="scan")
    run = segment_layer(viewer, "scan", model_folder, Settings.draft(), block=False, priority=-1)
    gated.gate.set()
    assert not run.wait().visible
    assert messages() == ["scan labels is not selected, and hidden"]


def test_without_a_window_the_labels_are_selected(one, channels) -> None:
    viewer = ViewerModel()
    viewer.add_image(channels[0], name="scan")
    labels = segment_layer(viewer, "scan", one, Settings.draft(uncertainty="margin"))
    assert viewer.layers.selection.active is labels
    assert [type(layer) for layer in viewer.layers] == [Image, Labels, Image]
