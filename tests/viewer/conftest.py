"""A real window with the plugin in it, a tiny model, and an engine that waits to be told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QThreadPool
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu.predict import run as run_module
from napari_nnunet_cpu.viewer.widget import SegmentWidget

PATIENCE_MS = 60_000


class GatedEngine:
    """Counts its passes and holds each one until the gate is open; may fail at one of them."""

    name, device, precision, threads, folds = "gated", "cpu", "f32", 1, 1

    def __init__(self, heads: int = 3) -> None:
        self.heads = heads
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.passes = 0
        self.error: Exception | None = None

    def logits(self, patch: np.ndarray, fold: int) -> np.ndarray:
        self.passes += 1
        self.entered.release()
        if not self.gate.wait(PATIENCE_MS / 1000):
            raise TimeoutError("nobody opened the gate")
        if self.error is not None:
            raise self.error
        return np.stack([np.full(patch.shape[1:], head, np.float32) for head in range(self.heads)])


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch):
    engine = GatedEngine()
    monkeypatch.setattr(run_module, "choose_engine", lambda model, settings: engine)
    yield engine
    engine.gate.set()
    assert QThreadPool.globalInstance().waitForDone(PATIENCE_MS)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return RandomModel(mirror_axes=(0, 1, 2)).write(tmp_path)


@pytest.fixture
def image() -> np.ndarray:
    return smooth_image((20, 27, 25), seed=4)[0]


@pytest.fixture
def viewer(make_napari_viewer, npe2pm):
    with npe2pm.tmp_plugin(package="napari-nnunet-cpu"):
        notification_manager.records.clear()
        viewer = make_napari_viewer(show=True)
        yield viewer
        assert QThreadPool.globalInstance().waitForDone(PATIENCE_MS)


@pytest.fixture
def widget(viewer, qtbot) -> SegmentWidget:
    _, widget = viewer.window.add_plugin_dock_widget("napari-nnunet-cpu", "nnU-Net segmentation")
    return widget


@pytest.fixture
def choose(widget, qtbot) -> Callable[[Path], None]:
    def choose(path: Path) -> None:
        widget.model.path.value = path
        qtbot.waitUntil(lambda: not widget.model.problem.startswith("reading"), timeout=PATIENCE_MS)

    return choose


@pytest.fixture
def finish(widget, qtbot) -> Callable[[], None]:
    return lambda: qtbot.waitUntil(lambda: widget.worker is None, timeout=PATIENCE_MS)


def messages() -> list[str]:
    """What napari told the user."""
    return [record.message for record in notification_manager.records]
