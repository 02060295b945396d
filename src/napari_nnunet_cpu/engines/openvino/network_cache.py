"""Converted networks on disk, so that a later run needs neither torch nor a conversion.

An entry is a folder with the network in OpenVINO's format and the hashes of its files. It is created atomically,
and read only if its hashes are right. Anyone may delete it at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_nnunet_cpu.engines.openvino.library import load_openvino, openvino_version
from napari_nnunet_cpu.json_cache import file_sha256, hash_of
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network import Architecture
from napari_nnunet_cpu.resources import cache_folder, installed_version, release_mapped
from napari_nnunet_cpu.whole_files import whole_folder

if TYPE_CHECKING:
    import openvino

_CONVERTER = 2  # increase it when the conversion gives another network
_CALIBRATION = 2  # increase it when the calibration gives another network
_NETWORK = "network.xml"
_FILES = (_NETWORK, "network.bin")
_HASHES = "sha256.json"
# They hold the code of networks that are not built here.
_LIBRARIES = ("dynamic-network-architectures", "timm")


def describe_network(model: TrainedModel) -> dict[str, Any]:
    """Everything that determines the networks of a model, except their weights, as plain values."""
    architecture = model.architecture
    if isinstance(architecture, Architecture):
        libraries, block = {}, architecture.model_dump(mode="json")
    else:
        libraries = {name: installed_version(name) for name in _LIBRARIES}
        block = dataclasses.asdict(architecture)
    return {
        "architecture": block,
        "libraries": libraries,
        "channels": model.input_channels,
        "heads": model.labels.heads,
        "patch": list(model.configuration.patch_size),
    }


def network_key(model: TrainedModel, fold: int, precision: str) -> str:
    """The key of one fold's entry, which depends on everything that determines the network.

    Raises `EngineError` if OpenVINO can't be loaded.
    """
    document = describe_network(model) | {
        "weights": model.checkpoint_sha256[fold],
        "precision": precision,
        "openvino": openvino_version(),
        "converter": _CONVERTER,
    }
    if precision == "int8":
        document |= {"nncf": installed_version("nncf"), "calibration": _CALIBRATION}
    return hash_of(document)


def read_network(key: str) -> openvino.Model | None:
    """The network of an entry, with weights mapped from the file; None without one. A damaged entry is removed."""
    folder = entry_folder(key)
    if not os.path.isdir(folder):  # also for a folder without permission
        return None
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # RuntimeError is OpenVINO's
        if json.loads((folder / _HASHES).read_text(encoding="utf-8")) == _hashes(folder):
            network: openvino.Model = load_openvino().Core().read_model(folder / _NETWORK)
            return network
    shutil.rmtree(folder, ignore_errors=True)
    return None


def entry_sha256(key: str) -> str | None:
    """The hash of an entry, since several calibrations may have the same key; None without an entry."""
    with contextlib.suppress(OSError):
        return file_sha256(entry_folder(key) / _HASHES)
    return None


def keep_network(network: openvino.Model, key: str) -> bool:
    """Create an entry if the folder is writable and has space.

    Returns whether the entry holds this network; it does not if another process was faster.
    """
    folder = entry_folder(key)
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError is OpenVINO's
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as staging:
            load_openvino().save_model(network, staging / _NETWORK, compress_to_fp16=False)
            (staging / _HASHES).write_text(json.dumps(_hashes(staging)), encoding="utf-8")
        return True
    return False


def release_weights() -> None:
    """Free the memory of mapped weights, because compiled networks hold their own copy."""
    release_mapped(_entries())


def entry_folder(key: str) -> Path:
    """The folder of an entry, whether it exists or not. Further files in it are removed together with the entry."""
    return _entries() / key[:32]


def _entries() -> Path:
    return cache_folder() / "openvino"


def _hashes(folder: Path) -> dict[str, str]:
    return {name: file_sha256(folder / name) for name in _FILES}
