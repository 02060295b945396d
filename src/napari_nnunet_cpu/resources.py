"""What this process may use of the machine: cores, packages and a place for its files."""

from __future__ import annotations

import importlib.metadata
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

_CGROUP = Path("/sys/fs/cgroup")
_STATUS = Path("/proc/self/status")


def usable_cores() -> int:
    """Cores this process may keep busy: its CPU affinity, capped by the cgroup's quota (Linux containers).

    Returns
    -------
    int
        At least 1.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity call
        cores = os.cpu_count() or 1
    quota = _cgroup_quota(_CGROUP)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def _cgroup_quota(root: Path) -> float | None:
    """CPU quota of the cgroup mounted at `root` in cores (version 2, then 1), or None without one."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
    return cores if cores > 0 else None


def peak_memory_bytes() -> int | None:
    """Most memory this process has held at one time; None where the system does not tell (Windows)."""
    # On Linux getrusage also counts what the process was before it became this program.
    if _STATUS.is_file():
        kilobytes = re.search(r"VmHWM:\s*(\d+)", _STATUS.read_text())
        return int(kilobytes[1]) * 1024 if kilobytes else None
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cache_folder() -> Path:
    """Folder for files that can be made again, such as unpacked models.

    The environment variable NAPARI_NNUNET_CPU_CACHE names another one.
    """
    chosen = os.environ.get("NAPARI_NNUNET_CPU_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("napari-nnunet-cpu", appauthor=False)


def installed_version(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class Stopwatch:
    """Seconds spent, by the name of what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
