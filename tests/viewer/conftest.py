"""A real window with the plugin in it, a tiny model, and an engine that waits to be told."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QThreadPool
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Case, Settings, load_model, segment
from napari_nnunet_cpu.viewer.widget.widget import SegmentWidget

PATIENCE_MS = 20_000


class GatedEngine:
    """Counts its passes and holds each one until it is allowed, or the gate is open; may fail at one of them."""

    name, device, precision, threads, streams, folds = "gated", "cpu", "f32", 1, 1, 1
    reason, agreement, head_layer = "a test's", None, None

    def __init__(self, heads: int = 3) -> None:
        self.heads = heads
        self.gate = threading.Event()
        self.allowed = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.passes = 0
        self.error: Exception | None = None

    def forward(self, patch: np.ndarray, fold: int) -> np.ndarray:
        self.passes += 1
        self.entered.release()
        for _ in range(PATIENCE_MS // 50):
            if self.gate.is_set() or self.allowed.acquire(timeout=0.05):
                break
        else:
            raise TimeoutError("nobody opened the gate")
        if self.error is not None:
            raise self.error
        return np.stack([np.full(patch.shape[1:], head, np.float32) for head in range(self.heads)])

    def let(self, passes: int) -> None:
        """Allow so many passes, and wait until the one after them has begun."""
        for _ in range(passes):
            self.allowed.release()
        for _ in range(passes):
            assert self.entered.acquire(timeout=PATIENCE_MS / 1000)


@pytest.fixture(scope="module", autouse=True)
def _what_windows_leave() -> Iterator[None]:
    """What is left of a file's windows is not gone through again with each window of the next: it had its chance."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch):
    engine = GatedEngine()
    monkeypatch.setattr("napari_nnunet_cpu.predict.run_engine.choose_engine", lambda *_: engine)
    yield engine
    engine.gate.set()
    assert QThreadPool.globalInstance().waitForDone(PATIENCE_MS)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return RandomModel(mirror_axes=(0, 1, 2)).write(tmp_path)


@pytest.fixture
def image() -> np.ndarray:
    return smooth_image((20, 27, 25), seed=4)[0]


@pytest.fixture(scope="session")
def channels() -> np.ndarray:
    """Three small images (C, Z, Y, X)."""
    array = smooth_image((12, 14, 13), seed=3, channels=3)
    array.flags.writeable = False
    return array


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one channel, for small images."""
    return RandomModel(patch=(8, 8, 8)).write(tmp_path_factory.mktemp("one"))


@pytest.fixture(autouse=True)
def _settings_of_the_test(plugin_settings) -> None:
    """The user's settings of the plugin are left alone, and every test begins without any."""


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three channels, for small images."""
    return RandomModel(patch=(8, 8, 8), channels=("CT", "PET", "MR")).write(tmp_path_factory.mktemp("three"))


@pytest.fixture(scope="session")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three channels that works on planes."""
    model = RandomModel(patch=(8, 8), spacing=(1, 1), channels=("CT", "PET", "MR"))
    return model.write(tmp_path_factory.mktemp("planes"))


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
    return lambda: qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE_MS)


@pytest.fixture
def cost(widget, qtbot) -> Callable[[], str]:
    """What the widget says of costs, once they are those of its inputs."""

    def cost() -> str:
        qtbot.waitUntil(lambda: not widget.cost.pending, timeout=PATIENCE_MS)
        return str(widget.cost.value)

    return cost


def messages() -> list[str]:
    """What napari told the user."""
    return [record.message for record in notification_manager.records]


def expected_labels(model: Path, channels: np.ndarray, planar: bool = False) -> np.ndarray:
    """What the model makes of channels (C, Z, Y, X) of 1 mm without a viewer."""
    spacing = (999.0, 1.0, 1.0) if planar else (1.0, 1.0, 1.0)
    labels = segment(Case(channels, spacing, planar=planar), load_model(model), Settings.fast()).labels
    assert len(np.unique(labels)) == 3
    return labels


def label_shown(viewer, labels: Labels, image: Image, voxel: tuple[int, ...]) -> int | None:
    """The label that napari shows at a voxel of the image, with the sliders at it."""
    place = image.data_to_world(voxel)
    viewer.dims.point = place
    return labels.get_value(place, dims_displayed=list(viewer.dims.displayed), world=True)


def type_into(line, text: str) -> None:
    """As a user does."""
    line.native.setText(text)
    line.native.textEdited.emit(text)
