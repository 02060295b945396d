"""Scripted viewers: one call, waiting or not, with a window or without."""

from __future__ import annotations

import re

import numpy as np
import pytest
from conftest import PATIENCE_MS, messages
from napari.components import ViewerModel
from napari.layers import Layer
from typer.testing import CliRunner

from napari_nnunet_cpu import Settings, load_model, read_case, sample_image, sample_model, segment_layer
from napari_nnunet_cpu.cli import app
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.viewer.image.sample import sample_head


def test_waiting_without_a_window(model_folder, image) -> None:
    viewer = ViewerModel()
    source = viewer.add_image(image, scale=(1.5, 1, 1), name="scan")
    labels = segment_layer(viewer, "scan", model_folder, Settings.fast())
    assert list(viewer.layers) == [source, labels]
    assert labels.name == "scan labels"
    assert len(np.unique(labels.data)) == 3


def test_a_run_that_can_not_be_saved_is_made_all_the_same(model_folder, image, tmp_path) -> None:
    viewer = ViewerModel()
    source = viewer.add_image(image, name="scan")
    saved = segment_layer(viewer, source, model_folder, Settings.fast(), folder=tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match=f"^the run is not saved in {re.escape(str(tmp_path))}"):
        labels = segment_layer(viewer, source, model_folder, Settings.fast(), folder=tmp_path / "file" / "runs")
    np.testing.assert_array_equal(labels.data, saved.data)


def test_not_waiting_gives_the_same(viewer, qtbot, model_folder, image) -> None:
    source = viewer.add_image(image, name="scan")
    run = segment_layer(viewer, source, load_model(model_folder), Settings.fast(), block=False)
    assert run.wait() is viewer.layers[-1]
    waited = segment_layer(ViewerModel(), source, model_folder, Settings.fast())
    np.testing.assert_array_equal(viewer.layers[-1].data, waited.data)


def test_cancel_without_waiting(viewer, qtbot, gated, model_folder, image) -> None:
    source = viewer.add_image(image)
    run = segment_layer(viewer, source, model_folder, block=False)
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    run.cancel()
    gated.gate.set()
    assert run.wait() is None
    assert gated.passes == 1
    assert list(viewer.layers) == [source]


def test_errors_are_told_without_waiting(viewer, qtbot, gated, model_folder, image) -> None:
    gated.error = RuntimeError("out of luck")
    gated.gate.set()
    segment_layer(viewer, viewer.add_image(image), model_folder, block=False)
    qtbot.waitUntil(lambda: messages() == ["the run failed: out of luck"], timeout=PATIENCE_MS)


def test_only_image_layers_are_segmented(model_folder, image) -> None:
    viewer = ViewerModel()
    viewer.add_labels(image.astype(np.uint8), name="organs")
    with pytest.raises(CaseError, match="organs is not an image layer"):
        segment_layer(viewer, "organs", model_folder)
    with pytest.raises(CaseError, match="there is no layer 'scan'"):
        segment_layer(viewer, "scan", model_folder)


def test_what_does_not_fit_raises(model_folder, image) -> None:
    viewer = ViewerModel()
    viewer.add_image(image[0], name="slice")
    with pytest.raises(CaseError, match="2D image"):
        segment_layer(viewer, "slice", model_folder)


def test_the_sample_gives_the_labels_of_the_command_line(tmp_path) -> None:
    out = tmp_path / "labels.nii.gz"
    arguments = ["segment", str(sample_image()), "-m", str(sample_model()), "-o", str(out), "--preset", "fast"]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    viewer = ViewerModel()
    viewer.add_layer(Layer.create(*sample_head()[0]))
    labels = segment_layer(viewer, viewer.layers[0], sample_model(), Settings.fast())
    np.testing.assert_array_equal(labels.data, read_case(out).channels[0])
    assert set(np.unique(labels.data)) == {0, 1, 2}
