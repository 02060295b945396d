"""A run in the window: started, watched, cancelled, failed, closed."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from conftest import PATIENCE_MS, messages
from napari.utils.progress import progress
from qtpy.QtCore import QObject, QThreadPool, Signal
from superqt.utils._qthreading import WorkerBase

from napari_nnunet_cpu import Case, Settings, load_model, segment
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.events import TileDone
from napari_nnunet_cpu.viewer.run.worker import ActivityProgress


def test_labels_equal_those_of_python(viewer, widget, choose, finish, model_folder, image) -> None:
    source = viewer.add_image(image, scale=(1.5, 1, 1), translate=(3, 4, 5), units="mm", name="scan")
    choose(model_folder)
    widget.run_button.clicked.emit(True)
    assert widget.run_button.text == "Cancel"
    finish()
    assert widget.run_button.text == "Run"
    (labels,) = [layer for layer in viewer.layers if layer is not source]
    model = load_model(model_folder)
    expected = segment(Case(image[None], (1.5, 1, 1)), model, Settings.fast())
    np.testing.assert_array_equal(labels.data, expected.labels)
    assert len(np.unique(labels.data)) == 3
    assert labels.data.dtype == np.uint8
    assert list(labels.features["name"]) == ["background", "liver", "kidney"]
    liver = np.argwhere(labels.data == 1)[0]
    viewer.dims.set_current_step(0, liver[0])
    assert "liver" in labels.get_status(labels.data_to_world(liver), world=True)["coordinates"]
    history = labels.metadata["nnunet"]
    assert history["settings"]["preset"] == "fast"
    assert history["runs"][0]["model"]["weights_sha256"] == model.weights_sha256
    colors = [tuple(labels.colormap.map(value)) for value in (1, 2)]
    assert len(set(colors)) == 2
    assert labels.colormap.map(0)[3] == 0
    assert messages() == []


PLACES = {
    "scale": {
        "scale": (2, 0.5, 1), "translate": (-5, 3, 7), "units": ("mm", "mm", "mm"), "axis_labels": ("z", "y", "x")
    },
    "rotate": {"rotate": 25.0, "units": ("mm", "mm", "mm")},
    "shear": {"shear": [0.1, 0.0, 0.2]},
    "affine": {
        "affine": np.array([[-2.0, 0, 0, 1], [0, 0.8, -0.6, 2], [0, 0.6, 0.8, 3], [0, 0, 0, 1]]), "scale": (1, 2, 2)
    },
    "micrometres": {"scale": (1000, 500, 500), "units": ("um", "um", "um")},
}  # fmt: skip


def test_labels_lie_exactly_on_the_image(viewer, widget, choose, finish, gated, model_folder, image, subtests) -> None:
    choose(model_folder)
    gated.gate.set()
    corners = np.array([[0, 0, 0], [19, 0, 0], [0, 26, 0], [0, 0, 24], [19, 26, 24]])
    for name, place in PLACES.items():
        with subtests.test(name):
            source = viewer.add_image(image, **place)
            widget.channels.boxes[0].value = source
            assert widget.run() is not None, messages()
            finish()
            labels = viewer.layers[-1]
            assert labels is not source, messages()
            for corner in corners:
                np.testing.assert_allclose(labels.data_to_world(corner), source.data_to_world(corner))
            assert labels.units == source.units
            source.affine = np.diag([3.0, 1, 1, 1])
            source.translate = (7, 7, 7)
            assert not np.allclose(labels.data_to_world(corners[-1]), source.data_to_world(corners[-1]))
            assert labels.axis_labels == source.axis_labels
        viewer.layers.clear()


def test_progress_counts_tiles_and_time(viewer, widget, choose, finish, gated, qtbot, model_folder, image) -> None:
    viewer.add_image(image)
    choose(model_folder)
    live = widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    (bar,) = progress._all_instances
    seen = []
    live.progressed.connect(lambda _: seen.append((widget.progress.value, bar.n, widget.status.value)))
    gated.gate.set()
    finish()
    total = widget.progress.max
    assert total == gated.passes > 1
    counted = [entry for entry in seen if "tiles" in entry[2]]
    assert [entry[0] for entry in counted] == list(range(1, total + 1))
    assert [entry[1] for entry in counted] == list(range(1, total + 1))
    assert all("left" in entry[2] for entry in counted)
    assert len(progress._all_instances) == 0


@pytest.mark.parametrize("how", ["button", "activity-dock"])
def test_cancel_stops_within_one_pass(viewer, widget, choose, finish, gated, model_folder, image, how: str) -> None:
    viewer.add_image(image)
    choose(model_folder)
    widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    if how == "button":
        widget.run_button.clicked.emit(True)
    else:
        next(iter(progress._all_instances)).cancel()
    gated.gate.set()
    finish()
    assert gated.passes == 1
    assert [layer.name for layer in viewer.layers] == ["image", "image (preview)"]
    assert widget.run_button.text == "Continue"
    assert "cancelled" in widget.status.value
    # And the widget is ready: the run goes on.
    assert widget.run() is not None
    finish()
    assert [layer.name for layer in viewer.layers] == ["image", "image labels"]
    assert gated.passes == widget.progress.max


def test_an_engine_error_is_told_once(viewer, widget, choose, finish, gated, model_folder, image, subtests) -> None:
    choose(model_folder)
    gated.gate.set()
    for told, kind in enumerate((RuntimeError, EngineError, ValueError, MemoryError), start=1):
        with subtests.test(kind.__name__):
            source = viewer.add_image(image.copy())
            gated.error = kind(f"out of luck {told}")
            widget.run()
            finish()
            assert len(messages()) == told
            assert f"out of luck {told}" in messages()[-1]
            assert widget.run_button.text == "Run"
            assert list(viewer.layers) == [source]
            np.testing.assert_array_equal(source.data, image)
            gated.error = None
            widget.run()
            finish()
            assert len(viewer.layers) == 2
        viewer.layers.clear()


def test_the_image_may_be_removed_during_a_run(viewer, widget, choose, finish, gated, model_folder, image) -> None:
    source = viewer.add_image(image + 1000, scale=(2, 1, 1))
    choose(model_folder)
    widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    viewer.layers.remove(source)
    gated.gate.set()
    finish()
    (labels,) = viewer.layers
    np.testing.assert_allclose(labels.scale, (2, 1, 1))
    assert (labels.data == 2).all()
    assert messages() == []


def test_closing_the_window_ends_the_run(viewer, widget, choose, gated, model_folder, image) -> None:
    viewer.add_image(image)
    choose(model_folder)
    widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    viewer.close()
    gated.gate.set()
    assert QThreadPool.globalInstance().waitForDone(PATIENCE_MS)
    assert gated.passes == 1
    assert messages() == []


def test_no_worker_is_left(viewer, widget, choose, finish, gated, qtbot, model_folder, image) -> None:
    viewer.add_image(image)
    choose(model_folder)
    gated.gate.set()
    widget.run()
    finish()
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=PATIENCE_MS)


def test_tiles_that_pile_up_are_counted_without_nesting(viewer, qtbot) -> None:
    """napari's bars let the window live while they are drawn, which delivers what waits."""

    class Worker(QObject):
        yielded = Signal(object)
        finished = Signal()

    worker = Worker()
    bar = ActivityProgress(worker, "many tiles", lambda: None)
    drawn: list[int] = []
    bar.events.value.connect(lambda event: drawn.append(event.value))
    total = 3 * sys.getrecursionlimit()
    thread = threading.Thread(
        target=lambda: [worker.yielded.emit(TileDone(number, total, 1.0)) for number in range(1, total + 1)]
    )
    thread.start()
    thread.join()
    qtbot.waitUntil(lambda: bar.n == total and drawn[-1:] == [total], timeout=PATIENCE_MS)
    assert drawn == sorted(set(drawn))
    worker.finished.emit()
    assert len(progress._all_instances) == 0
