"""The figures of cases, and the computer that they were measured on, as one document."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from napari_nnunet_cpu.bench.case import BenchCase
from napari_nnunet_cpu.bench.live import check_window, live_rows
from napari_nnunet_cpu.bench.ours import Ours
from napari_nnunet_cpu.bench.pairs import Pairs
from napari_nnunet_cpu.bench.theirs import Theirs
from napari_nnunet_cpu.resources import installed_version, processor_name, usable_cores

_CPUINFO = Path("/proc/cpuinfo")
# Speed depends on the width of f32 arithmetic, and on instructions for int8 and bf16.
_FLAGS = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "amx": ("amx_int8", "amx_bf16"),
}
_PACKAGES = ("napari-nnunet-cpu", "torch", "openvino", "nncf", "numpy", "scipy", "scikit-image", "nibabel")


def measure_pairs(
    cases: Iterable[BenchCase],
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
    """Measure each case `pairs` times in all ways of the presets and with nnU-Net: plain values, ready for JSON.

    `work` is the folder for labels and caches. `on_run` is called before every process, `on_case` after every case.
    """
    ways = [way for preset in presets for way in Ours.ways(preset, engine, streams)]
    measured = []
    for case in cases:
        folder = work / case.name / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        measured.append(Pairs(case, ways, theirs, folder, on_run).run(pairs))
        on_case(measured[-1])
    settings = {"pairs": pairs, "engine": engine, "presets": list(presets)}
    return _computer() | {"reference": theirs.describe(), "settings": settings, "cases": measured}


def measure_live(
    cases: Iterable[BenchCase],
    presets: Sequence[str],
    engine: str,
    times: int,
    work: Path,
    on_run: Callable[[str], None],
) -> dict[str, Any]:
    """Measure runs in a window, see `live_rows`: plain values for JSON. Raises `ViewerError` without a window."""
    check_window()
    cache = work / "live-cache"
    rows = [row for case in cases for row in live_rows(case, presets, engine, times, cache, on_run)]
    return _computer() | {"live": rows}


def _computer() -> dict[str, Any]:
    """Processor, usable cores, instructions, system, and the versions of our packages."""
    text = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.is_file() else ""
    lines = dict(
        [part.strip() for part in line.split(":", 1)] for line in reversed(text.splitlines()) if ":" in line
    )  # the first core's
    flags = lines.get("flags", lines.get("Features", "")).split()
    machine = {
        "cpu": processor_name(),
        "cores": usable_cores(),
        "flags": {name: any(flag in flags for flag in either) for name, either in _FLAGS.items()},
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    return {"machine": machine, "versions": {name: installed_version(name) for name in _PACKAGES}}
