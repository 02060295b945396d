"""Compile an OpenVINO network for one input shape, or read the compiled network from the cache."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_nnunet_cpu.engines.openvino.concatenation import convolve_apart
from napari_nnunet_cpu.engines.openvino.instance_norm import normalize_exactly
from napari_nnunet_cpu.engines.openvino.library import load_openvino
from napari_nnunet_cpu.json_cache import hash_of
from napari_nnunet_cpu.resources import is_x86
from napari_nnunet_cpu.whole_files import whole_file

if TYPE_CHECKING:
    import openvino

_VERSION = 2  # increase it when the same network is compiled differently
_HASH_BYTES = hashlib.sha256().digest_size


def compiled(
    network: openvino.Model, shape: Sequence[int], threads: int, folder: Path | None = None, streams: int = 1
) -> openvino.CompiledModel:
    """Compile a network for one input shape (1, C, *patch), in float32. The given network is changed.

    `threads` is a maximum, limited by the number of cores, and all `streams` share them. `folder` is the cache folder
    of this network, where the compiled network is kept. Raises OpenVINO's own `RuntimeError`, for example if the
    network does not support the shape.
    """
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",  # because the default is bf16 or f16 on some CPUs
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # because all processes with one thread would share the first core
    }
    core = load_openvino().Core()
    file = None if folder is None else folder / _name(network, shape, options, core)
    if file is not None:
        cached = _read(file, options, core)
        if cached is not None:
            return cached
    network.reshape(list(shape))
    if is_x86():  # because OpenVINO fuses convolution and sum only there
        convolve_apart(network)
    normalize_exactly(network)
    result = core.compile_model(network, "CPU", options)
    if file is not None:
        _keep(result, file)
    return result


def _name(network: openvino.Model, shape: Sequence[int], options: Mapping[str, Any], core: openvino.Core) -> str:
    """The file name, which depends on everything that influences the compiled network except its weights."""
    processor = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    output = network.output(0).get_node().input_value(0).get_node().get_friendly_name()
    document = {"making": _VERSION, "shape": list(shape), "output": output, "processor": processor, **options}
    return f"{hash_of(document)[:32]}.compiled"


def _read(file: Path, options: Mapping[str, Any], core: openvino.Core) -> openvino.CompiledModel | None:
    """The compiled network in a file; None if it is missing or damaged."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError is OpenVINO's
        content = file.read_bytes()
        hashed, data = content[:_HASH_BYTES], content[_HASH_BYTES:]
        if hashlib.sha256(data).digest() == hashed:
            network: openvino.CompiledModel = core.import_model(data, "CPU", options)
            return network
    return None


def _keep(network: openvino.CompiledModel, file: Path) -> None:
    """Write a compiled network for `_read`, if possible."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError, because OpenVINO can't export every network
        data = network.export_model().getbuffer()
        with whole_file(file) as temporary, temporary.open("wb") as sink:
            sink.writelines((hashlib.sha256(data).digest(), data))
