"""The computer that the figures are of, and the versions of what ran on it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from napari_nnunet_cpu.resources import installed_version, processor_name, usable_cores

_CPUINFO = Path("/proc/cpuinfo")
# What decides of speed: the width of f32 arithmetic, and whether there is any for int8 and bf16.
_FLAGS = {"avx2": "avx2", "avx512": "avx512f", "vnni": ("avx512_vnni", "avx_vnni"), "amx": ("amx_int8", "amx_bf16")}
_PACKAGES = ("napari-nnunet-cpu", "torch", "openvino", "nncf", "numpy", "scipy", "scikit-image", "nibabel")


def describe_machine() -> dict[str, Any]:
    """Processor, usable cores, flags and system: plain values."""
    text = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.is_file() else ""
    lines = dict(
        [part.strip() for part in line.split(":", 1)] for line in reversed(text.splitlines()) if ":" in line
    )  # the first core's
    flags = lines.get("flags", lines.get("Features", "")).split()
    return {
        "cpu": processor_name(),
        "cores": usable_cores(),
        "flags": {name: any(flag in flags for flag in ([any_of] if isinstance(any_of, str) else any_of))
                  for name, any_of in _FLAGS.items()},
        "system": platform.platform(),
        "python": platform.python_version(),
    }  # fmt: skip


def versions() -> dict[str, str | None]:
    """Of our side's packages; None where one is not installed."""
    return {name: installed_version(name) for name in _PACKAGES}
