"""What this machine can compute on."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from napari_nnunet_cpu.errors import DeviceError
from napari_nnunet_cpu.resources import usable_cores

# There on Linux where a driver is loaded: of NVIDIA's, in its subsystem of Windows, of AMD's.
_GPU_DEVICES = tuple(map(Path, ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))


@dataclass(frozen=True, slots=True)
class Device:
    """A device that exists on this machine.

    Attributes
    ----------
    name : str
        As torch calls it: "cpu", "cuda:0", "mps".
    label : str
        For people: "CPU, 8 cores".
    """

    name: str
    label: str


def available_devices() -> tuple[Device, ...]:
    """The devices of this machine, the CPU first; torch is loaded only where there may be others."""
    cores = usable_cores()
    cpu = Device("cpu", f"CPU, {cores} core{'s' if cores > 1 else ''}")
    return (cpu, *(_gpus() if _gpu_driver() else ()))


def resolve_device(wanted: str) -> str:
    """The device to use.

    Parameters
    ----------
    wanted : str
        "auto" (a GPU where there is one, else the CPU), "cpu", "cuda", "cuda:N" or "mps".

    Raises
    ------
    DeviceError
        When this machine has no such device, saying why.
    """
    if wanted == "cpu":
        return wanted
    if wanted == "auto":
        _, *gpus = available_devices()
        return gpus[0].name if gpus else "cpu"
    names = ["cpu", *(gpu.name for gpu in _gpus())]  # asked for by name, and torch knows best
    name = "cuda:0" if wanted == "cuda" else wanted
    if name not in names:
        raise DeviceError(f"device {wanted} is not available ({_reason(name)}); this machine has {', '.join(names)}")
    return name


def _gpus() -> list[Device]:
    """What torch finds beside the CPU."""
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
    """Whether torch may find a GPU: one of Apple's, or a driver of NVIDIA's or AMD's."""
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
