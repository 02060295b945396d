"""A whole bench: the cases one after another, with what they ran on, as one document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_nnunet_cpu.bench.cases import BenchCase, own_case, write_case
from napari_nnunet_cpu.bench.live import check_window, live_rows
from napari_nnunet_cpu.bench.machine import describe_machine, versions
from napari_nnunet_cpu.bench.ours import Ours
from napari_nnunet_cpu.bench.pairs import Pairs
from napari_nnunet_cpu.bench.theirs import Theirs


def bench(
    cases: Sequence[str],
    model: Path | None,
    images: Sequence[Path],
    *,
    presets: Sequence[str],
    streams: Sequence[int],
    engine: str,
    theirs: Theirs,
    pairs: int,
    work: Path,
    on_run: Callable[[str], None],
    on_case: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Measure the cases by name, then the user's own model and images if there is one.

    Parameters
    ----------
    cases : sequence of str
        Names of `cases.WRITERS`.
    model, images : Path or None, sequence of Path
        The user's own.
    presets, engine : sequence of str, str
        As `segment` takes them.
    streams : sequence of int
        Also so many passes at a time, of each preset.
    theirs : Theirs
        nnU-Net's side.
    pairs : int
        Rounds of every case.
    work : Path
        Folder for images, models, labels and caches.
    on_run, on_case : callable
        Told of every process before it starts, and of every case when it is measured.

    Returns
    -------
    dict
        "machine", "versions", "reference", "settings" and "cases": plain values, ready for JSON.

    Raises
    ------
    SettingsError, ModelError, CaseError
        When there is no such case, or the user's own can't be opened.
    """
    ways = [way for preset in presets for way in Ours.ways(preset, engine, streams)]
    measured = []

    def measure(case: BenchCase) -> None:
        folder = work / case.name / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        measured.append(Pairs(case, ways, theirs, folder, on_run).run(pairs))
        on_case(measured[-1])

    for name in cases:
        on_run(f"{name}: making image and model")
        measure(write_case(name, work))
    if model is not None:
        measure(own_case(model, tuple(images)))
    return {
        "machine": describe_machine(),
        "versions": versions(),
        "reference": theirs.describe(),
        "settings": {"pairs": pairs, "engine": engine, "presets": list(presets)},
        "cases": measured,
    }


def bench_live(
    cases: Sequence[str],
    model: Path | None,
    images: Sequence[Path],
    *,
    presets: Sequence[str],
    times: int,
    work: Path,
    on_run: Callable[[str], None],
) -> dict[str, Any]:
    """Measure runs in a window, see `live_rows`: parameters as of `bench`.

    Returns
    -------
    dict
        "machine", "versions" and "live", a row for every case and preset: plain values, ready for JSON.

    Raises
    ------
    SettingsError, ModelError, CaseError
        When there is no such case, or the user's own can't be opened.
    ViewerError
        When no window can be opened.
    """
    check_window()
    made = [write_case(name, work) for name in cases]
    if model is not None:
        made.append(own_case(model, tuple(images)))
    rows = []
    for case in made:
        rows += live_rows(case, presets, times, work / "live-cache", on_run)
    return {"machine": describe_machine(), "versions": versions(), "live": rows}
