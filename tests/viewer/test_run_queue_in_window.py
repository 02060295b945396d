"""Two runs at once: the second waits, says so, and has its turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from conftest import PATIENCE_MS, messages
from napari.layers import Labels
from qtpy.QtCore import QThreadPool

from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.viewer.widget.widget import SegmentWidget

WAITING = "waiting for the run before it"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As on a computer of one core, where a run that waits must not keep the only thread."""
    pool = QThreadPool.globalInstance()
    before = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    yield
    pool.setMaxThreadCount(before)


@pytest.fixture
def open_widget(viewer, make_napari_viewer, image, model_folder, qtbot) -> Callable[..., SegmentWidget]:
    """Opens a widget, in the same window or in one of its own, with a model read."""

    def open_widget(home=viewer) -> SegmentWidget:
        if not home.layers:
            home.add_image(image, name="scan")
        widget = SegmentWidget(home)
        home.window.add_dock_widget(widget)
        widget.model.path.value = model_folder
        qtbot.waitUntil(lambda: bool(widget.model.models), timeout=PATIENCE_MS)
        return widget

    return open_widget


@pytest.fixture
def computing(gated, monkeypatch) -> list[int]:
    """Which thread each pass through the network was made by."""
    threads: list[int] = []
    forward = gated.forward

    def told(patch: np.ndarray, fold: int) -> np.ndarray:
        threads.append(threading.get_ident())
        return forward(patch, fold)

    monkeypatch.setattr(gated, "forward", told)
    return threads


@pytest.fixture
def run_first(gated, open_widget) -> SegmentWidget:
    """A widget whose run has begun to compute."""
    widget = open_widget()
    widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    return widget


@pytest.fixture
def run_second(run_first, open_widget, qtbot) -> Callable[..., SegmentWidget]:
    """Opens a widget whose run waits."""

    def run_second(*home) -> SegmentWidget:
        widget = open_widget(*home)
        widget.run()
        qtbot.waitUntil(lambda: widget.status.value == WAITING, timeout=PATIENCE_MS)
        assert widget.run_button.text == "Cancel"
        return widget

    return run_second


def ended(widget: SegmentWidget) -> bool:
    return widget.run_button.text != "Cancel"


@pytest.mark.parametrize("apart", [False, True], ids=["one-window", "two-windows"])
def test_the_second_run_waits_and_then_runs(
    viewer, make_napari_viewer, run_first, run_second, open_widget, gated, computing, qtbot, apart: bool
) -> None:
    other = make_napari_viewer(show=True) if apart else viewer
    second = run_second(other)
    assert gated.passes == 1
    open_widget()  # which reads a model meanwhile
    gated.gate.set()
    qtbot.waitUntil(lambda: ended(run_first) and ended(second), timeout=PATIENCE_MS)
    assert [widget.status.value.split(" in ")[0] for widget in (run_first, second)] == ["done", "done"]
    assert [len([layer for layer in home.layers if isinstance(layer, Labels)]) for home in (viewer, other)] == (
        [1, 1] if apart else [2, 2]
    )
    # The first pass was made before anybody looked.
    half = (gated.passes - 1) // 2
    assert gated.passes == len(computing) + 1 == 2 * (half + 1)
    assert (len(set(computing[:half])), len(set(computing[half:]))) == (1, 1)
    assert computing[0] != computing[-1]
    assert messages() == []


def test_a_run_that_waits_is_cancelled(viewer, run_first, run_second, gated, qtbot) -> None:
    second = run_second()
    second.run_button.clicked.emit(True)
    qtbot.waitUntil(lambda: ended(second), timeout=PATIENCE_MS)
    assert "cancelled" in second.status.value
    assert gated.passes == 1
    gated.gate.set()
    qtbot.waitUntil(lambda: ended(run_first), timeout=PATIENCE_MS)
    assert len(viewer.layers) == 2
    second.run()
    qtbot.waitUntil(lambda: ended(second), timeout=PATIENCE_MS)
    assert len(viewer.layers) == 3
    assert messages() == []


def test_the_next_runs_when_the_one_before_is_cancelled(viewer, run_first, run_second, gated, qtbot) -> None:
    second = run_second()
    run_first.run_button.clicked.emit(True)
    gated.gate.set()
    qtbot.waitUntil(lambda: ended(run_first) and ended(second), timeout=PATIENCE_MS)
    assert "cancelled" in run_first.status.value
    assert second.status.value.startswith("done in ")
    assert messages() == []


def test_the_next_runs_when_the_one_before_fails(viewer, run_first, run_second, gated, qtbot) -> None:
    second = run_second()
    gated.error = EngineError("out of luck")
    gated.gate.set()
    qtbot.waitUntil(lambda: ended(run_first) and ended(second), timeout=PATIENCE_MS)
    # Both had their turn, and both met the engine's error.
    assert [widget.status.value for widget in (run_first, second)] == ["out of luck"] * 2
    assert gated.passes == 2


def test_closing_the_window_ends_a_run_that_waits(run_first, run_second, make_napari_viewer, gated, qtbot) -> None:
    other = make_napari_viewer(show=True)
    run_second(other)
    other.close()
    gated.gate.set()
    qtbot.waitUntil(lambda: ended(run_first), timeout=PATIENCE_MS)
    assert QThreadPool.globalInstance().waitForDone(PATIENCE_MS)
    assert run_first.status.value.startswith("done in ")
    assert messages() == []
