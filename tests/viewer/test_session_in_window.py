"""An annotator's session in the window: labels into a layer, the next image in the background, corrections saved."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import PATIENCE_MS, messages
from napari.utils.notifications import NotificationSeverity, notification_manager

from napari_nnunet_cpu import Case, Settings, load_model, read_case, segment
from napari_nnunet_cpu.predict import Estimate
from napari_nnunet_cpu.predict.resume.saved_runs import saved_runs
from napari_nnunet_cpu.resources import runs_folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "cache"))


def expected(model_folder, image) -> np.ndarray:
    return segment(Case(image[None], (1, 1, 1)), load_model(model_folder), Settings.fast(precision="f32")).labels


def test_merged_into_a_layer_that_is_painted_in(
    viewer, widget, choose, finish, gated, model_folder, image, qtbot
) -> None:
    viewer.add_image(image + 1000, name="scan")
    mine = viewer.add_labels(np.zeros(image.shape, np.uint8), name="mine")
    mine.paint((5, 5, 5), 3)
    choose(model_folder)
    widget.result.layer.value = mine
    widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    mine.paint((12, 12, 12), 3)
    mine.name = "renamed"
    painted = mine.data.copy()
    gated.gate.set()
    finish()
    assert [layer.name for layer in viewer.layers] == ["scan", "renamed"]
    assert np.array_equal(mine.data, np.where(painted, painted, 2))
    mine.undo()
    assert np.array_equal(mine.data, painted)
    assert "done in" in widget.status.value
    assert messages() == []


def test_a_target_that_is_gone_loses_nothing(viewer, widget, choose, finish, gated, model_folder, image) -> None:
    viewer.add_image(image + 1000, name="scan")
    mine = viewer.add_labels(np.zeros(image.shape, np.uint8), name="mine")
    choose(model_folder)
    widget.result.layer.value = mine
    widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    viewer.layers.remove(mine)
    gated.gate.set()
    finish()
    assert [layer.name for layer in viewer.layers] == ["scan", "scan labels"]
    assert (viewer.layers["scan labels"].data == 2).all()
    assert "the labels are in a new layer" in messages()[0]


def test_the_next_image_waits_its_turn(viewer, widget, choose, finish, gated, model_folder, image, qtbot) -> None:
    viewer.add_image(image + 1000, name="first")
    second = viewer.add_image(image + 2000, name="second")
    choose(model_folder)
    widget.channels.boxes[0].value = second
    behind = widget.run_in_background()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    gated.let(2)
    assert widget.queue_button.text == "Run in the background (1 there)"
    widget.channels.boxes[0].value = viewer.layers["first"]
    widget.run()
    qtbot.waitUntil(lambda: "waiting" in widget.status.value, timeout=PATIENCE_MS)
    gated.gate.set()
    finish()
    assert "first labels" in viewer.layers
    qtbot.waitUntil(lambda: not behind.running, timeout=PATIENCE_MS)
    assert (viewer.layers["second labels"].data == 2).all()
    assert widget.queue_button.text == "Run in the background"
    assert widget.queue_button.runs == []


def test_a_run_that_was_ended_is_offered_and_gone_on_with(
    viewer, widget, cost, choose, finish, gated, model_folder, image, monkeypatch
) -> None:
    viewer.add_image(image + 1000, name="scan")
    choose(model_folder)
    monkeypatch.setattr(
        "napari_nnunet_cpu.viewer.run.costs.estimate", lambda *_, **__: Estimate(1, 1, 100.0, 1, "dense")
    )
    widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    gated.let(12)
    widget.cancel()
    gated.allowed.release()
    finish()
    done = gated.passes
    widget.live.close()  # as the end of the process does
    widget.live = None
    (saved,) = saved_runs(runs_folder())
    assert saved.tiles_done == done
    widget.run_options.preset.value = "exact"
    widget.run_options.preset.value = "fast"
    assert f"interrupted after {done} of {saved.tiles} tiles" in cost()
    gated.gate.set()
    widget.run()
    finish()
    assert gated.passes == saved.tiles
    assert (viewer.layers[-1].data == 2).all()
    assert not list(runs_folder().glob("*.run"))


@pytest.mark.parametrize("seen_while_computing", [True, False])
def test_a_full_disk_is_told_once_and_the_run_goes_on(
    viewer, widget, choose, finish, gated, model_folder, image, monkeypatch, qtbot, seen_while_computing
) -> None:
    viewer.add_image(image + 1000, name="scan")
    choose(model_folder)
    monkeypatch.setattr(
        "napari_nnunet_cpu.viewer.run.costs.estimate", lambda *_, **__: Estimate(1, 1, 100.0, 1, "dense")
    )
    live = widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    (file,) = live._segmentation.files._files
    file._database.execute("PRAGMA max_page_count = 8")
    gated.let(1)
    assert live.saving_problem is None
    if seen_while_computing:
        while live.saving_problem is None:
            gated.let(1)
        gated.let(1)
        qtbot.waitUntil(lambda: messages() != [], timeout=PATIENCE_MS)
    widget.cancel()
    gated.allowed.release()
    finish()
    why = "database or disk is full; it continues, but can't be resumed later"
    assert messages() == [f"scan: the run is not saved in {runs_folder()}: {why}"]
    assert notification_manager.records[0].severity == NotificationSeverity.WARNING
    gated.gate.set()
    widget.run()
    finish()
    assert len(messages()) == 1
    assert gated.passes == widget.progress.max
    assert (viewer.layers["scan labels"].data == 2).all()
    assert not list(runs_folder().glob("*.run"))


def test_uncertainty_is_shown_and_gone_through(viewer, widget, choose, finish, model_folder, image) -> None:
    viewer.add_image(image, name="scan")
    choose(model_folder)
    widget.run_options.uncertainty.value = "margin"
    widget.run()
    finish()
    layer = viewer.layers["scan uncertainty (uncalibrated)"]
    assert layer.data.shape == image.shape
    assert 0 < layer.data.max() <= 1
    assert np.array_equal(viewer.layers["scan labels"].data, expected(model_folder, image))
    assert widget.uncertainty_button.visible
    before = viewer.dims.current_step[0]
    worst = int(np.argmax([np.sort(plane.ravel())[-7:].mean() for plane in layer.data]))
    widget.uncertainty_button.clicked.emit(True)
    assert viewer.dims.current_step[0] != before or before == worst
    seen = set()
    for _ in range(len(image)):
        seen.add(viewer.dims.current_step[0])
        widget.uncertainty_button.clicked.emit(True)
    assert widget.status.value == "every uncertain slice was on screen"
    assert seen >= {row for row, plane in enumerate(layer.data) if plane.any()} - {before}


def test_corrected_labels_are_saved(viewer, widget, choose, finish, model_folder, image, tmp_path, qtbot) -> None:
    viewer.add_image(image, name="scan", scale=(2, 1, 1))
    choose(model_folder)
    widget.session.save()
    assert "no session folder is chosen" in messages()[-1]
    folder = tmp_path / "Dataset123_Corrected"
    folder.mkdir()
    widget.session.folder.value = folder
    widget.session.save()
    assert "no Labels layer is selected" in messages()[-1]
    widget.run()
    finish()
    labels = viewer.layers["scan labels"]
    labels.data[3:6, 4:9, 4:9] = 1
    viewer.layers.selection.active = labels
    widget.session.save_button.clicked.emit(True)
    qtbot.waitUntil(lambda: widget.session.note.value.startswith("saved scan labels as scan"), timeout=PATIENCE_MS)
    stored = read_case(folder / "labelsTr" / "scan.nii.gz")
    assert np.array_equal(stored.channels[0], labels.data)
    assert stored.spacing_mm == (2, 1, 1)
