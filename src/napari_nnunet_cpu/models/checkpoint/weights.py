"""Read checkpoints without running any code in them.

`torch.load(weights_only=True)` rebuilds only tensors and plain containers. Checkpoints also hold
numpy scalars (nnU-Net's training log) and objects of other trainers, which this mode refuses. Here
they become harmless stand-ins. There is no option to turn this off.
"""

from __future__ import annotations

import pickle
import reprlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_nnunet_cpu.errors import ModelError, first_line
from napari_nnunet_cpu.models.checkpoint.stand_ins import STAND_INS, whole_numbers
from napari_nnunet_cpu.models.checkpoint.torch_archive import check_torch_archive

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.types import Storage

# Safe loading has known holes before this version: CVE-2025-32434 and CVE-2026-24747.
_MIN_TORCH = (2, 10)
_WRAPPERS = ("module.", "_orig_mod.")  # left by DistributedDataParallel and torch.compile

# torch keeps the allowed names in a global variable of the process.
_lock = threading.Lock()


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint that inference needs."""

    weights: Mapping[str, Tensor]  # the state dict of the network, on the CPU
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]  # of the patch; empty if the training did not mirror
    fold: str  # "0" to "4" or "all"; "unknown" if nnU-Net did not store it


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of nnU-Net. Its tensors are mapped from the file and read on use.

    Raises `ModelError` if the file is damaged, is not a checkpoint, or would run code.
    """
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _MIN_TORCH:
        raise ModelError(f"torch {torch.__version__} can't open checkpoints safely; install torch 2.10 or newer")
    records = check_torch_archive(path)
    mapped: list[tuple[int, int]] = []  # address and size of every storage

    def keep(storage: Storage, _: str) -> Storage:
        mapped.append((storage.data_ptr(), storage.nbytes()))
        return storage  # on the CPU, wherever it was saved

    try:
        with _lock, torch.serialization.safe_globals([(kind, name) for name, kind in STAND_INS.items()]):
            content = torch.load(path, map_location=keep, weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} was refused: {_reason(path)}") from error
    except Exception as error:  # noqa: BLE001  # a hostile file can make torch raise anything
        raise ModelError(f"{path} is damaged: {first_line(error)}") from error
    # Compared, because torch maps as many bytes as the index declares, even those of another record.
    if [size for _, size in sorted(mapped) if size] != records:
        raise ModelError(f"{path} is damaged: its tensors do not have the sizes of its records; copy the file again")
    return _interpret(content, path)


def load_weights(network: nn.Module, checkpoint: Checkpoint, path: Path) -> nn.Module:
    """Assign the tensors of a checkpoint to a network, without a copy.

    Raises `ModelError` if names or shapes differ (it lists the first three), or a weight is not finite.
    """
    import torch

    check_weights(network, checkpoint, path)
    weights = {name: t.float() if t.is_floating_point() else t for name, t in checkpoint.weights.items()}
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: weight {name} is not finite; the training may have diverged")
    network.load_state_dict(weights, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def check_weights(network: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    """Raise `ModelError` if names, shapes or types of the weights differ from the network's, which may be on "meta"."""
    expected = {name: _kind(tensor) for name, tensor in network.state_dict().items()}
    found = {name: _kind(tensor) for name, tensor in checkpoint.weights.items()}
    wrong = [f"{name} is missing" for name in expected.keys() - found.keys()]
    wrong += [f"{name} is not part of it" for name in found.keys() - expected.keys()]
    wrong += [
        f"{name} is {found[name]}, not {kind}"
        for name, kind in expected.items()
        if name in found and found[name] != kind
    ]
    if wrong:
        raise ModelError(
            f"{path} does not fit the network of its plans: {'; '.join(sorted(wrong)[:3])}"
            + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        )
    # Refused, because many weights may share the same few bytes in the file, and then need memory of their own.
    smallest = min(tensor.element_size() for tensor in checkpoint.weights.values())
    if sum(parameter.numel() for parameter in network.parameters()) * smallest > path.stat().st_size:
        raise ModelError(f"{path} is smaller than the weights it declares; it was refused")


def _kind(tensor: Tensor) -> str:
    return f"{'float' if tensor.is_floating_point() else 'int'} {tuple(tensor.shape)}"


def _interpret(content: Any, path: Path) -> Checkpoint:
    import torch

    if not isinstance(content, dict) or "network_weights" not in content:
        raise ModelError(f"{path} is not a checkpoint of nnU-Net v2: it has no network_weights")
    weights = content["network_weights"]
    arguments = content.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
    fold = arguments.get("fold") if isinstance(arguments, dict) else None
    trainer, axes = content.get("trainer_name"), content.get("inference_allowed_mirroring_axes")
    if not isinstance(configuration, str) or not isinstance(trainer, str):
        raise ModelError(f"{path} does not say its configuration and trainer (init_args, trainer_name)")
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in weights.items()
    ):
        raise ModelError(f"{path}: network_weights must be named tensors")
    invalid = next((name for name, tensor in weights.items() if not _is_plain(tensor)), None)
    if invalid is not None:
        raise ModelError(
            f"{path}: network_weights must be dense tensors of real numbers, {invalid} is not; it was refused"
        )
    numbers = () if axes is None else whole_numbers(axes)
    if numbers is None or not all(0 <= axis < 3 for axis in numbers):
        found = reprlib.repr(axes if numbers is None else numbers)
        raise ModelError(f"{path}: inference_allowed_mirroring_axes must be axis numbers, found {found}")
    return Checkpoint(
        {_unwrapped(name): tensor for name, tensor in weights.items()},
        configuration,
        trainer,
        tuple(sorted(set(numbers))),
        str(fold) if type(fold) is int or fold == "all" else "unknown",
    )


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is dense, real, in memory, and has its own bytes for every element."""
    import torch

    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and not tensor.is_nested
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _reason(path: Path) -> str:
    """Why torch refused the file, in our words, because torch's message advises to read it unsafely."""
    import torch

    try:
        asked = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        names = [name for name in asked if name not in STAND_INS]
    except Exception:  # noqa: BLE001  # a hostile file can make torch raise anything
        names = []
    if names:
        return f"it asks to load {', '.join(sorted(names)[:3])}, which is more than weights"
    return "its index is more than a list of weights and plain values, and can't be read safely"
