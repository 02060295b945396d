"""Costs are computed beside the window: the last inputs win, errors are shown, and nothing outlives the widget."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import dask.array
import numpy as np
import pytest
from conftest import PATIENCE_MS, messages, type_into
from napari.layers import Image
from qtpy.QtCore import QThreadPool
from random_model import RandomModel

from napari_nnunet_cpu import Case, load_model
from napari_nnunet_cpu.events import duration, size
from napari_nnunet_cpu.predict import estimate, saved_runs
from napari_nnunet_cpu.predict.resume import RunFile
from napari_nnunet_cpu.prepare import nonzero_box
from napari_nnunet_cpu.resources import runs_folder
from napari_nnunet_cpu.settings import PRESETS, Settings
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.run import costs
from napari_nnunet_cpu.viewer.widget import cost_label


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "cache"))


class HeldCosts:
    """Notes every request, and answers it when it is allowed; may fail."""

    def __init__(self) -> None:
        self.requests: list[costs.CostRequest] = []
        self.allowed = threading.Semaphore(0)
        self.error: Exception | None = None
        self._answer = costs.costs_of

    def __call__(self, request, *found):
        self.requests.append(request)
        assert self.allowed.acquire(timeout=PATIENCE_MS / 1000)
        if self.error is not None:
            raise self.error
        return self._answer(request, *found)

    def wait_for(self, qtbot, count: int) -> None:
        """Let the window live until so many requests have come."""
        qtbot.waitUntil(lambda: len(self.requests) == count, timeout=PATIENCE_MS)

    @property
    def steps(self) -> list[float]:
        return [request.settings[0].step for request in self.requests]


@pytest.fixture
def held(viewer, widget, cost, choose, one, channels, monkeypatch):
    """A widget with its inputs chosen, whose further costs wait."""
    viewer.add_image(channels[0] + 1000, name="scan")
    choose(one)
    cost()
    found = HeldCosts()
    monkeypatch.setattr(cost_label, "costs_of", found)
    yield found
    for _ in range(10):
        found.allowed.release()


def expected_text(case: Case, model: Path, widget, first_stage: np.ndarray | None = None) -> str:
    trained, lines, most = load_model(model), [], 0
    for preset in PRESETS:
        settings = Settings.from_preset(preset, device="cpu", threads=widget.run_options.threads.value)
        one = estimate(case, trained, settings, first_stage, any_order=True, nonzero=nonzero_box(case))
        assert one.seconds is not None
        lines.append(f"{preset}: {one.tiles} tiles, {one.passes} passes, about {duration(one.seconds)}")
        most = max(most, one.bytes)
    return "<br>".join([*lines, f"memory: up to {size(most)}"])


def test_they_are_those_of_the_estimate(viewer, widget, cost, choose, model_folder, image) -> None:
    viewer.add_image(image, scale=(3, 1, 1))
    choose(model_folder)
    shown = cost()
    assert shown == expected_text(Case(image[None], (3, 1, 1)), model_folder, widget)
    assert "exact: 24 tiles, 192 passes, about " in shown


def test_lazy_images_are_not_read(viewer, widget, cost, choose, one, channels) -> None:
    lazy = dask.array.from_array(channels[0]).map_blocks(
        lambda _: pytest.fail("read"), dtype=np.float32, meta=np.zeros(0)
    )
    viewer.add_image(lazy, name="scan", contrast_limits=(0, 1), visible=False)
    choose(one)
    assert ": up to 18 tiles, " in cost()


def test_the_box_is_found_once_for_an_image(channels) -> None:
    image, other = (image_from_layers([Image(channel)]) for channel in channels[:2])
    boxes, found = costs.NonzeroBoxes(), []
    for asked in (image, image, replace(image), other, image):
        box = boxes.of(asked)
        found.append(box)
        assert box == nonzero_box(asked.case())
    assert [a is b for a, b in pairwise(found)] == [True, True, False, False]


def test_a_first_stage_counts_by_its_shape_alone(viewer, widget, cost, choose, tmp_path, image) -> None:
    """Also where axes of the layer are others than those of the file."""
    low = RandomModel(spacing=(2.0, 2.0, 2.0), called="3d_lowres", seed=5)
    folder = RandomModel(first_stage=low).write(tmp_path)
    viewer.add_image(image.T, name="scan")
    labels = viewer.add_labels(np.zeros(image.T.shape, np.uint8), name="low")
    choose(folder)
    type_into(widget.channels.axes, "X, Y, Z")
    widget.first_stage.value = labels
    outline = widget.first_stage.outline(widget.channels.seen)
    assert (outline.shape, outline.dtype, outline.strides) == (image.shape, np.uint8, (0, 0, 0))  # no voxels
    case = Case(image[None], (1, 1, 1))
    assert cost() == expected_text(case, folder, widget, np.zeros(image.shape, np.uint8))
    widget.first_stage.value = "run it first"
    assert cost() == expected_text(case, folder, widget)


def test_the_last_inputs_win(widget, cost, held, qtbot) -> None:
    widget.run_options.step.value = 0.6
    held.wait_for(qtbot, 1)
    before = widget.cost.value
    for step in (0.7, 0.8, 0.9):
        widget.run_options.step.value = step
    qtbot.wait(2 * cost_label._PAUSE_MS)  # one at a time: nothing else begins meanwhile
    assert held.steps == [0.6]
    held.allowed.release()
    held.wait_for(qtbot, 2)
    assert (widget.cost.value, widget.cost.enabled) == (before, False)  # those of 0.6 are not shown
    held.allowed.release()
    shown = cost()
    assert held.steps == [0.6, 0.9]
    first, last = (costs.costs_of(request, [], request.image.nonzero_box()).text for request in held.requests)
    assert shown == last != first
    assert widget.cost.enabled


def test_costs_that_nobody_wants_any_more_are_not_shown(viewer, widget, held, qtbot) -> None:
    widget.run_options.step.value = 0.6
    held.wait_for(qtbot, 1)
    viewer.layers.clear()
    assert (widget.cost.value, widget.cost.pending) == ("", False)
    held.allowed.release()
    assert QThreadPool.globalInstance().waitForDone(PATIENCE_MS)
    qtbot.waitUntil(lambda: widget.cost._computed is None, timeout=PATIENCE_MS)
    assert widget.cost.value == ""


def test_an_error_is_shown_until_it_is_mended(widget, cost, held, channels) -> None:
    z, y, x = channels[0].shape
    widget.part.kind.value = "typed"
    widget.part.bounds.value = f"0:{z + 1}, 0:{y}, 0:{x}"
    held.allowed.release()
    text = f"0:{z + 1},0:{y},0:{x}"
    assert cost() == f"the box {text} exceeds the image, whose shape is {(z, y, x)}: give a box inside it"
    widget.part.bounds.value = f"0:{z}, 0:{y}, 0:{x}"
    assert widget.cost.value == ""
    held.allowed.release()
    assert re.match(r"exact: \d+ tiles, ", cost())
    assert messages() == []


def test_an_unexpected_error_is_raised_and_the_next_costs_are_shown(widget, cost, held, qtbot) -> None:
    held.error = ZeroDivisionError("not ours")
    with qtbot.captureExceptions() as caught:
        widget.run_options.step.value = 0.6
        held.allowed.release()
        assert cost() == ""
    assert [type(error) for _, error, _ in caught] == [ZeroDivisionError]
    held.error = None
    widget.run_options.step.value = 0.7
    held.allowed.release()
    assert re.match(r"exact: \d+ tiles, ", cost())


def test_a_widget_closes_while_they_are_computed(viewer, widget, held, qtbot) -> None:
    widget.run_options.step.value = 0.6
    held.wait_for(qtbot, 1)
    widget.run_options.step.value = 0.7
    viewer.window.remove_dock_widget(widget.native)
    held.allowed.release()
    pool = QThreadPool.globalInstance()
    qtbot.waitUntil(lambda: pool.activeThreadCount() == 0, timeout=PATIENCE_MS)
    qtbot.wait(2 * cost_label._PAUSE_MS)
    assert held.steps[0] == 0.6
    assert pool.activeThreadCount() == 0
    assert messages() == []


def test_nothing_is_counted_on_the_main_thread(
    viewer, widget, cost, choose, finish, gated, one, channels, monkeypatch
) -> None:
    threads: list[threading.Thread] = []

    def noted(*arguments, **options):
        threads.append(threading.current_thread())
        return estimate(*arguments, **options)

    monkeypatch.setattr(costs, "estimate", noted)
    viewer.add_image(channels[0] + 1000, name="scan")
    choose(one)
    gated.gate.set()
    cost()
    known = len(threads)
    widget.run()
    finish()
    cost()
    assert len(threads) > known > 0
    assert threading.main_thread() not in threads


def save_run(number: int, tiles: int, model: Path, shape: tuple[int, ...]) -> None:
    """Leave the file of an interrupted run of "scan"."""
    file = RunFile(runs_folder(), {"number": number})
    weights = load_model(model).weights_sha256
    about = {"image": "scan", "shape": list(shape), "model": "m", "weights_sha256": weights, "tiles": 99}
    file.describe(about | {"in_rows": True})
    file.save(range(tiles), [], [(((0, 1),) * 3, np.zeros((2, 1, 1, 1), np.float32))], [])
    file.close()


def test_a_keystroke_opens_no_run_file(viewer, widget, cost, choose, finish, gated, one, channels, monkeypatch) -> None:
    opened: list[str] = []
    connect = saved_runs.__globals__["sqlite3"].connect

    class Recorded:
        Error = saved_runs.__globals__["sqlite3"].Error

        @staticmethod
        def connect(path, *arguments, **options):
            opened.append(path)
            return connect(path, *arguments, **options)

    monkeypatch.setitem(saved_runs.__globals__, "sqlite3", Recorded)
    image = channels[0] + 1000
    save_run(1, 5, one, image.shape)
    viewer.add_image(image, name="scan")
    choose(one)
    assert "interrupted after 5 of 99 tiles" in cost()
    assert len(opened) == 1
    opened.clear()
    for text in ("2", "2, 2", "2, 2, 2.5"):
        type_into(widget.channels.spacing, text)
        cost()
    widget.run_options.step.value = 0.8
    assert "interrupted after 5 of 99 tiles" in cost()
    assert opened == []
    save_run(2, 7, one, image.shape)
    widget.run_options.step.value = 0.7
    assert "interrupted after 7 of 99 tiles" in cost()  # the last one that was saved
    assert len(opened) == 2
    gated.gate.set()
    widget.run()
    finish()
    cost()
    opened.clear()
    widget._list_saved_runs()
    cost()
    assert len(opened) == 2
