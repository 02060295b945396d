"""`nnunet-cpu bench --live` with a stand-in for the process that opens the window."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from napari_nnunet_cpu.bench import live
from napari_nnunet_cpu.bench.process import Ended
from napari_nnunet_cpu.errors import ViewerError

FIRST = {
    "first": 2.0,
    "final": 4.0,
    "whole": 10.0,
    "gap": 0.04,
    "gap_outside": 0.03,
    "gap_idle": 0.01,
    "tiles": 8,
    "precision": "f32",
}


@pytest.fixture
def processes(monkeypatch):
    """What was run; the figures of the runs, one after the other."""
    ran, figures = [], [FIRST, FIRST, FIRST | {"first": 3.0, "gap": 0.06}, FIRST | {"first": 1.0, "final": None}]

    def run(command, environment):
        ran.append((command, environment))
        return Ended(1.0, f"loading\n{json.dumps(figures[len(ran) - 1])}\n", None, 0.0)

    monkeypatch.setattr(live, "run_process", run)
    monkeypatch.setenv("DISPLAY", ":0")
    return ran


def test_medians_after_a_run_that_fills_the_cache(tiny, processes, tmp_path):
    case = replace(tiny, options=("--agreement", "0"))
    (row,) = live.live_rows(case, ["exact"], "torch", 3, tmp_path, lambda _: None)
    assert len(processes) == 4
    chosen = ["--preset", "exact", "--engine", "torch", "--agreement", "0"]
    assert processes[0][0][1:] == ["-m", live._PROGRAM, str(tiny.model.folder), "0", str(tiny.images[0]), *chosen]
    own = {"NAPARI_NNUNET_CPU_CACHE": str(tmp_path), "NAPARI_CONFIG": str(tmp_path / "napari.yaml")}
    assert all(environment == own for _, environment in processes)
    assert (row["first"], row["final"], row["whole"], row["gap"], row["gap_outside"]) == (2.0, 4.0, 10.0, 0.04, 0.03)
    assert (row["first_share"], row["final_share"], row["tiles"]) == (0.2, 0.4, 8)


def test_without_a_display_one_is_made(tiny, processes, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(live.sys, "platform", "linux")
    live.live_rows(tiny, ["exact"], "auto", 1, tmp_path, lambda _: None)
    assert processes[0][0][: len(live._DISPLAY)] == list(live._DISPLAY)
    monkeypatch.setattr(live.shutil, "which", lambda _: None)
    with pytest.raises(ViewerError, match="there is no display and no xvfb-run"):
        live.check_window()


def test_a_failure_is_a_row(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "run_process", lambda *_: Ended(1.0, "", "no window", 0.0))
    monkeypatch.setenv("DISPLAY", ":0")
    rows = live.live_rows(tiny, ["exact", "fast"], "auto", 2, tmp_path, lambda _: None)
    assert [(row["preset"], row["failure"], row["first"]) for row in rows] == [
        ("exact", "no window", None),
        ("fast", "no window", None),
    ]
