"""The devices of this computer: CPU and GPUs."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from napari_nnunet_cpu.errors import DeviceError
from napari_nnunet_cpu.resources import usable_cores

# These exist on Linux when a driver is loaded: NVIDIA's, the one in Windows' Linux subsystem, AMD's.
_GPU_DEVICES = tuple(map(Path, ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))


@dataclass(frozen=True, slots=True)
class Device:
    """A device of this computer."""

    name: str  # torch's name: "cpu", "cuda:0", "mps"
    label: str  # name for the user: "CPU, 8 cores"


def available_devices() -> tuple[Device, ...]:
    """The devices of this computer, the CPU first. torch is only imported if there may be a GPU."""
    cores = usable_cores()
    cpu = Device("cpu", f"CPU, {cores} core{'s' if cores > 1 else ''}")
    return (cpu, *(_gpus() if _gpu_driver() else ()))


def resolve_device(wanted: str) -> str:
    """The device for "auto" (a GPU if there is one, else the CPU), "cpu", "cuda", "cuda:N" or "mps".

    Raises `DeviceError`, with the reason, if this computer has no such device.
    """
    if wanted == "cpu":
        return wanted
    if wanted == "auto":
        _, *gpus = available_devices()
        return gpus[0].name if gpus else "cpu"
    names = ["cpu", *(gpu.name for gpu in _gpus())]  # from torch, even if no driver was found here
    name = "cuda:0" if wanted == "cuda" else wanted
    if name not in names:
        raise DeviceError(f"device {wanted} is not available ({_reason(name)}); this machine has {', '.join(names)}")
    return name


def _gpus() -> list[Device]:
    """The GPUs that torch finds."""
    import torch

    found = []
    if torch.cuda.is_available():
        found += [
            Device(f"cuda:{index}", f"GPU {index}, {torch.cuda.get_device_name(index)}")
            for index in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU"))
    return found


def _gpu_driver() -> bool:
    """Whether torch may find a GPU: Apple silicon, or a driver by NVIDIA or AMD."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    library = Path(os.environ.get("SYSTEMROOT", "C:/Windows"), "System32", "nvcuda.dll")
    return any(path.exists() for path in (library, *_GPU_DEVICES))


def _reason(name: str) -> str:
    import torch

    if not name.startswith("cuda"):
        return "it needs an Apple computer with torch's MPS backend"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    return "torch finds no NVIDIA GPU of this number, or no driver for it"
