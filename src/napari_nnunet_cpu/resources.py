"""The cores, memory, packages and folders that this process may use."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import math
import mmap
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
import psutil

Step = TypeVar("Step")

_CGROUP = Path("/sys/fs/cgroup")
_STATUS = Path("/proc/self/status")
_CPU = Path("/proc/cpuinfo")
# Instructions that sum 8-bit products: Linux's names for them, and numpy's names for the first processors with them.
_INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}
_INT8_PROCESSORS = {"AVX512_CLX", "AVX512_ICL", "AVX512_SPR"}


def usable_cores() -> int:
    """Cores that this process may use, at least 1: its CPU affinity, capped by the quota of the container (cgroup)."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity call
        cores = os.cpu_count() or 1
    quota = _cgroup_quota(_CGROUP)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def _cgroup_quota(root: Path) -> float | None:
    """CPU quota in cores of the cgroup (version 2 or 1) mounted at `root`; None without a quota."""
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


def free_memory_bytes() -> int:
    """Free memory of the system, capped by the limit of the container (cgroup)."""
    free = int(psutil.virtual_memory().available)
    room = _cgroup_room(_CGROUP)
    return free if room is None else max(0, min(free, room))


def _cgroup_room(root: Path) -> int | None:
    """Bytes left under the memory limit of the cgroup (version 2 or 1) mounted at `root`; None without a limit."""
    for limit, use, statistic in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        try:
            room = int((root / limit).read_text()) - int((root / use).read_text())
            # Cached files count as used memory, but the system frees those first that nobody read for a while.
            idle = re.search(r"^(?:total_)?inactive_file (\d+)$", (root / statistic).read_text(), re.MULTILINE)
        except (OSError, ValueError):  # no such version, or "max": no limit
            continue
        return room + (int(idle[1]) if idle else 0)
    return None


def resident_bytes() -> int:
    """Physical memory of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)


def processor_name() -> str:
    """The processor's model name, or its architecture where the system does not tell the name."""
    if _CPU.is_file():  # because platform.processor() starts another process on Linux
        name = re.search(r"^model name\s*:\s*(.*\S)", _CPU.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        return name[1] if name else platform.machine()
    return platform.processor() or platform.machine()


def is_x86() -> bool:
    """Whether the processor is an x86 of 64 bits, by Intel or AMD."""
    return platform.machine().lower() in ("x86_64", "amd64")


def int8_is_fast() -> bool:
    """Whether the CPU has VNNI or AMX, which make int8 several times faster than float32."""
    if _CPU.is_file():
        flags = re.search(r"^flags\s*:(.*)", _CPU.read_text(), re.MULTILINE)
        return flags is not None and not _INT8_FLAGS.isdisjoint(flags[1].split())
    import numpy as np

    found: Any = np.show_config(mode="dicts")
    return not _INT8_PROCESSORS.isdisjoint(found.get("SIMD Extensions", {}).get("found", ()))


def peak_memory_bytes() -> int | None:
    """Peak physical memory of this process in bytes; None on Windows, which does not tell it."""
    # Not getrusage on Linux, because it also counts the program that this process was before exec.
    if _STATUS.is_file():
        kilobytes = re.search(r"VmHWM:\s*(\d+)", _STATUS.read_text())
        return int(kilobytes[1]) * 1024 if kilobytes else None
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release_mapped(folder: Path) -> None:
    """Free the memory of a folder's memory-mapped files (Linux); the system reads them again on the next access."""
    if not hasattr(mmap, "MADV_DONTNEED") or not hasattr(psutil.Process, "memory_maps"):
        return
    library = ctypes.CDLL(None)
    for part in psutil.Process().memory_maps(grouped=False):
        if part.perms.startswith("r--") and part.path.startswith(f"{folder.resolve()}{os.sep}"):
            start, stop = (int(address, 16) for address in part.addr.split("-"))
            library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)


def cache_folder() -> Path:
    """The folder for files that can be made again, such as unpacked models.

    The environment variable NAPARI_NNUNET_CPU_CACHE can name another folder.
    """
    chosen = os.environ.get("NAPARI_NNUNET_CPU_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("napari-nnunet-cpu", appauthor=False)


def runs_folder() -> Path:
    """The folder where the viewer keeps its run files."""
    return cache_folder() / "runs"


def installed_version(package: str) -> str | None:
    """The version of a package, or None if it is not installed."""
    try:
        return _version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache  # it searches every folder of packages; a missing package may still be installed, and is not cached
def _version(package: str) -> str:
    return importlib.metadata.version(package)


class Stopwatch:
    """Adds up seconds by the name of a stage."""

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

    def timed(self, name: str, steps: Iterable[Step]) -> Iterator[Step]:
        """Yield the steps of an iterable, adding the time that it takes for each to `name`."""
        upcoming = iter(steps)
        while True:
            with self.timing(name):
                try:
                    step = next(upcoming)
                except StopIteration:
                    return
            yield step
