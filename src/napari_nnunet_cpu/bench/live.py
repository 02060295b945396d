"""Measure a run in a window: how soon labels appear on the slice shown, and how long the window does not respond."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_nnunet_cpu.bench.case import BenchCase
from napari_nnunet_cpu.bench.process import run_process
from napari_nnunet_cpu.bench.ratios import middle
from napari_nnunet_cpu.errors import ViewerError

_FIGURES = ("first", "final", "whole", "gap", "gap_outside", "gap_idle")
_PROGRAM = "napari_nnunet_cpu.viewer.live_times"
_DISPLAY = ("xvfb-run", "-a", "-s", "-screen 0 1400x900x24")


def check_window() -> None:
    """Raise `ViewerError` where no window can be opened."""
    if importlib.util.find_spec("napari") is None:
        raise ViewerError("no window can be opened: napari is not installed; pip install 'napari[all]'")
    if _needs_display() and shutil.which(_DISPLAY[0]) is None:
        raise ViewerError("no window can be opened: there is no display and no xvfb-run; install the package xvfb")


def live_rows(
    case: BenchCase, presets: Sequence[str], engine: str, times: int, cache: Path, on_run: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Segment the case in a window, each time in a new process: first to fill the cache, then `times` with each preset.

    A row for each preset has medians in seconds: until the "first" and the "final" labels are on the slice, of the
    "whole" run, the longest "gap" in which the window did not answer, "gap_outside" of what napari does to add a layer,
    and "gap_idle", that of a window at rest.
    """
    rows = []
    for preset in presets:
        found: list[dict[str, Any]] = []
        failure = None
        for number in range(times + 1):
            on_run(f"{case.name}, {preset}, {'cache' if not number else f'{number} of {times}'}")
            chosen = [str(case.model.folder), case.model.folds[0], *map(str, case.images), "--preset", preset]
            command = [sys.executable, "-m", _PROGRAM, *chosen, "--engine", engine, *case.options]
            if _needs_display():
                command = [*_DISPLAY, *command]
            # The user's settings of napari are left alone, because the window remembers its last run.
            own = {"NAPARI_NNUNET_CPU_CACHE": str(cache), "NAPARI_CONFIG": str(cache / "napari.yaml")}
            ended = run_process(command, own)
            failure = ended.failure
            if failure is not None:
                break
            if number:
                found.append(json.loads(ended.output.splitlines()[-1]))
        row: dict[str, Any] = {"case": case.name, "preset": preset, "failure": failure}
        for name in _FIGURES:
            row[name] = middle([one[name] for one in found if one[name] is not None])
        for name in ("first", "final"):
            known = row[name] is not None and row["whole"]
            row[f"{name}_share"] = row[name] / row["whole"] if known else None
        for name in ("tiles", "precision"):
            row[name] = found[0][name] if found else None
        rows.append(row)
    return rows


def _needs_display() -> bool:
    return sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY")
