"""Labels appear while the run goes on: what is looked at first, and it is stopped and gone on with."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import PATIENCE_MS, messages
from napari.components import ViewerModel
from qtpy.QtCore import QThreadPool

from napari_nnunet_cpu import Case, Settings, load_model, segment, segment_layer
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.image.view_state import box_in_view, box_of_shapes, focus_of


def names(viewer) -> list[str]:
    return [layer.name for layer in viewer.layers]


@pytest.fixture
def started(viewer, widget, choose, gated, model_folder, image, qtbot):
    """A run in the window whose passes are let through one by one."""

    def start(**options):
        viewer.add_image(image + 1000, name="scan")  # nothing of it is cropped away
        choose(model_folder)
        for name, value in options.items():
            getattr(widget.run_options, name).value = value
        live = widget.run()
        assert gated.entered.acquire(timeout=PATIENCE_MS / 1000), messages()
        return live

    return start


@pytest.fixture
def painting(viewer, widget, gated, qtbot):
    """Let passes through until labels appear; the preview."""

    def until():
        while not painted(viewer).any():
            gated.let(1)
            qtbot.waitUntil(lambda: widget.progress.value == gated.passes - 1, timeout=PATIENCE_MS)
        return viewer.layers["scan (preview)"]

    return until


def painted(viewer) -> np.ndarray:
    return viewer.layers["scan (preview)"].data != 0


@pytest.fixture
def more(viewer, widget, gated, qtbot):
    """Let passes through until more labels appear."""

    def until():
        before = painted(viewer).sum()
        while painted(viewer).sum() == before:
            gated.let(1)
            qtbot.waitUntil(lambda: widget.progress.value == gated.passes - 1, timeout=PATIENCE_MS)

    return until


def test_labels_appear_before_the_end(viewer, widget, finish, gated, started, painting, more) -> None:
    live = started()
    assert widget.live is live
    preview = painting()
    assert names(viewer) == ["scan", "scan (preview)"]
    first = painted(viewer)
    assert first.any()
    assert not first.all()
    assert not preview.editable
    assert viewer.layers.selection.active is viewer.layers["scan"]
    assert (preview.data[first] == 2).all()
    more()
    gated.gate.set()
    finish()
    assert names(viewer) == ["scan", "scan labels"]
    assert (viewer.layers["scan labels"].data == 2).all()
    assert messages() == []


@pytest.mark.parametrize(("order", "axis"), [((0, 1, 2), 0), ((1, 0, 2), 1), ((2, 0, 1), 2)])
def test_the_slice_shown_comes_first_and_the_slider_is_followed(
    viewer, widget, finish, gated, started, qtbot, image, order, axis
) -> None:
    viewer.dims.ndim = 3
    viewer.dims.order = order
    started()
    viewer.dims.set_current_step(axis, image.shape[axis] - 1)
    for _ in range(60):
        shown = image.shape[axis] - 1
        if np.take(painted(viewer), shown, axis).all():
            break
        gated.let(1)
        qtbot.waitUntil(lambda: widget.progress.value >= gated.passes - 1, timeout=PATIENCE_MS)
    last = np.take(painted(viewer), image.shape[axis] - 1, axis)
    assert last.all()
    assert not np.take(painted(viewer), 0, axis).any()
    assert widget.progress.value < widget.progress.max / 2 + 2
    gated.gate.set()
    finish()
    assert (viewer.layers["scan labels"].data == 2).all()


def test_cancel_keeps_and_continue_goes_on(viewer, widget, finish, gated, started, painting) -> None:
    started()
    painting()
    done = gated.passes - 1
    widget.cancel()
    gated.allowed.release()
    finish()
    assert widget.run_button.text == "Continue"
    assert widget.status.value == f"cancelled after {done} tiles; finished tiles are kept"
    assert names(viewer) == ["scan", "scan (preview)"]
    before = painted(viewer)
    assert before.any()
    widget.keep_button.clicked.emit(True)
    assert names(viewer) == ["scan", "scan labels"]
    kept = viewer.layers["scan labels"]
    assert np.array_equal(kept.data != 0, before)
    assert kept.editable
    gated.gate.set()
    widget.run_button.clicked.emit(True)
    finish()
    assert gated.passes == widget.progress.max  # each tile once
    assert names(viewer) == ["scan", "scan labels", "scan labels [1]"]
    assert (viewer.layers["scan labels [1]"].data == 2).all()
    assert widget.run_button.text == "Run"
    assert widget.live is None


def test_other_inputs_begin_a_new_run(viewer, widget, finish, gated, started) -> None:
    live = started()
    gated.let(3)
    widget.cancel()
    gated.allowed.release()
    finish()
    widget.run_options.step.value = 1.0
    assert widget.run_button.text == "Run"
    gated.gate.set()
    widget.run()
    assert widget.live is not live
    finish()
    assert names(viewer) == ["scan", "scan labels"]


def test_a_draft_is_carried_on(viewer, widget, finish, gated, started) -> None:
    started(preset="draft")
    gated.gate.set()
    finish()
    draft = gated.passes
    assert widget.progress.max == draft
    widget.run_options.preset.value = "fast"
    widget.run()
    finish()
    assert gated.passes == widget.progress.max > draft  # each once
    assert names(viewer) == ["scan", "scan labels", "scan labels [1]"]


def test_a_part_then_the_rest(viewer, widget, cost, choose, finish, model_folder, image) -> None:
    viewer.add_image(image, name="scan")
    choose(model_folder)
    shapes = viewer.add_shapes([[[4, 6, 6], [4, 6, 14], [4, 12, 14], [4, 12, 6]]], name="region")
    widget.part.kind.value = shapes
    assert "up to" in cost()
    widget.run()
    finish()
    assert widget.run_button.text == "Run"
    part = viewer.layers["scan labels"].data
    expected = segment(Case(image[None], (1, 1, 1)), load_model(model_folder), Settings.fast()).labels
    box = np.s_[:, 6:13, 6:15]
    assert np.array_equal(part[box], expected[box])
    assert expected[box].any()
    assert part.sum() == part[box].sum()
    widget.part.kind.value = "typed"
    widget.part.bounds.value = "0:9, 0:9, 0:9"
    widget.run()
    finish()
    assert np.array_equal(viewer.layers[-1].data[:9, :9, :9], expected[:9, :9, :9])
    widget.part.bounds.value = "0:9, 0:9"
    assert widget.run() is None
    assert "write start:stop along Z, Y and X" in messages()[-1]
    widget.part.kind.value = "everything"
    assert not widget.part.bounds.visible
    widget.run()
    finish()
    assert np.array_equal(viewer.layers[-1].data, expected)


def test_the_preview_may_be_removed(viewer, widget, finish, gated, started, painting) -> None:
    started()
    viewer.layers.remove(painting())
    gated.gate.set()
    finish()
    assert names(viewer) == ["scan", "scan labels"]
    assert messages() == []


def test_in_3d_it_is_sent_to_the_screen_at_the_end(
    viewer, widget, finish, gated, started, painting, more, monkeypatch
) -> None:
    viewer.dims.ndisplay = 3
    started()
    refreshed = []
    preview = painting()
    monkeypatch.setattr(preview, "refresh", lambda *_, **__: refreshed.append(1))
    more()
    assert refreshed == []
    widget.cancel()
    gated.gate.set()
    finish()
    assert refreshed == [1]


def test_closing_the_window_with_a_preview(viewer, gated, started, painting) -> None:
    started()
    painting()
    passes = gated.passes
    viewer.close()
    gated.gate.set()
    assert QThreadPool.globalInstance().waitForDone(PATIENCE_MS)
    assert gated.passes == passes
    assert messages() == []


def test_a_script_listens_waits_and_goes_on(viewer, gated, model_folder, image) -> None:
    viewer.add_image(image + 1000, name="scan")
    run = segment_layer(viewer, "scan", model_folder, Settings.draft(), block=False)
    events = []
    run.progressed.connect(lambda event: events.append(event.text))
    gated.gate.set()
    first = run.wait()
    assert first.name == "scan labels"
    assert run.labels is first
    assert events[-1] == "making the labels"
    assert any("tiles" in text for text in events)
    passes = gated.passes
    run.choose()
    run.start()
    second = run.wait()
    assert second is not first
    assert gated.passes > passes
    gated.error = ValueError("out of luck")
    again = segment_layer(viewer, "scan", model_folder, block=False)
    with pytest.raises(ValueError, match="out of luck"):
        again.wait()


def test_a_layer_takes_the_labels_of_one_result(viewer, gated, model_folder, image) -> None:
    """It was compared with itself before that run; the next result begins a new layer."""
    viewer.add_image(image + 1000, name="scan")
    viewer.dims.set_current_step(0, 0)
    mine = viewer.add_labels(np.zeros(image.shape, np.uint8), name="mine")
    gated.gate.set()
    run = segment_layer(viewer, "scan", model_folder, Settings.draft(), into="mine", block=False)
    assert run.wait() is mine
    before, focus = mine.data.copy(), run.control.focus
    viewer.dims.set_current_step(0, 3)
    assert run.control.focus is focus  # which is not followed between two runs
    run.choose()
    run.start()
    assert run.wait() is viewer.layers["scan labels"]
    np.testing.assert_array_equal(mine.data, before)


@pytest.mark.parametrize("axes", ["Z, Y, X", "-X, Z, Y", "Y, -Z, -X"])
def test_what_is_shown_is_found_in_the_file(axes: str) -> None:
    """Focus, view and shapes, through the axes that a reader turned."""
    viewer = ViewerModel()
    data = np.arange(6 * 8 * 10).reshape(6, 8, 10)
    layer = viewer.add_image(data, scale=(2, 1, 0.5), translate=(7, 0, 0))
    image = image_from_layers([layer], axes=axes)
    in_file = image.case().channels[0]
    for order in [(0, 1, 2), (1, 0, 2), (2, 0, 1)]:
        viewer.dims.order = order
        viewer.dims.point = layer.data_to_world((4, 5, 7))
        viewer.scene.camera.center = [layer.data_to_world((4, 5, 7))[axis] for axis in order]
        focus = focus_of(viewer, layer, image)
        assert in_file[focus.point] == data[4, 5, 7]
        others = list(focus.point)
        others[focus.axis] = slice(None)
        line = [4, 5, 7]
        line[order[0]] = slice(None)
        assert sorted(in_file[tuple(others)]) == sorted(data[tuple(line)])
    viewer.dims.ndisplay = 3
    assert focus_of(viewer, layer, image).axis is None

    viewer.dims.ndisplay = 2
    viewer.dims.order = (0, 1, 2)
    layer.corner_pixels = np.array([[0, 2, 3], [5, 4, 8]])
    (z0, z1), (y0, y1), (x0, x1) = box_in_view(viewer, layer, image)
    assert sorted(in_file[z0:z1, y0:y1, x0:x1].ravel()) == sorted(data[4:5, 2:5, 3:9].ravel())

    corners = [layer.data_to_world(corner) for corner in [(3, 1, 2), (3, 1, 6), (3, 5, 6), (3, 5, 2)]]
    shapes = viewer.add_shapes([np.array(corners)])
    (z0, z1), (y0, y1), (x0, x1) = box_of_shapes(shapes, layer, image)
    assert sorted(in_file[z0:z1, y0:y1, x0:x1].ravel()) == sorted(data[:, 1:6, 2:7].ravel())
