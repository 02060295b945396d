"""A network of OpenVINO's, ready to run: made so, or read from where it was kept so."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_nnunet_cpu.engines.openvino.concatenation import convolve_apart
from napari_nnunet_cpu.engines.openvino.instance_norm import normalize_exactly
from napari_nnunet_cpu.engines.openvino.library import load_openvino
from napari_nnunet_cpu.json_cache import hash_of, write_whole
from napari_nnunet_cpu.resources import is_x86

if TYPE_CHECKING:
    import openvino

_MAKING = 2  # raise it when the same network is made ready in another way
_HASH_BYTES = hashlib.sha256().digest_size


def compiled(
    network: openvino.Model, shape: Sequence[int], threads: int, keep_in: Path | None = None, streams: int = 1
) -> openvino.CompiledModel:
    """Make a network ready for one shape of its input, in float32.

    Parameters
    ----------
    network : openvino.Model
        Is changed: what it was made of is not needed any more.
    shape : sequence of int
        Of the input (1, C, *patch).
    threads : int
        CPU threads, at most; OpenVINO takes no more than there are cores.
    keep_in : Path, optional
        A folder that belongs to this network alone, where it is kept ready for the next time.
    streams : int
        Passes at a time, which share the threads.

    Raises
    ------
    RuntimeError
        OpenVINO's own, as when the network can't take such a shape.
    """
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",  # else bf16 or f16 where the CPU has it
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # else all processes with one thread share the first core
    }
    core = load_openvino().Core()
    file = None if keep_in is None else keep_in / _name(network, shape, options, core)
    if file is not None:
        kept = _read(file, options, core)
        if kept is not None:
            return kept
    network.reshape(list(shape))
    if is_x86():  # elsewhere openvino does not add to what is there
        convolve_apart(network)
    normalize_exactly(network)
    ready = core.compile_model(network, "CPU", options)
    if file is not None:
        _keep(ready, file)
    return ready


def _name(network: openvino.Model, shape: Sequence[int], options: Mapping[str, Any], core: openvino.Core) -> str:
    """Name of the file: another one for all that decides how the network is made ready, but for its weights."""
    processor = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    output = network.output(0).get_node().input_value(0).get_node().get_friendly_name()
    document = {"making": _MAKING, "shape": list(shape), "output": output, "processor": processor, **options}
    return f"{hash_of(document)[:32]}.compiled"


def _read(file: Path, options: Mapping[str, Any], core: openvino.Core) -> openvino.CompiledModel | None:
    """What is kept in a file; None without one, or where it is damaged."""
    with contextlib.suppress(OSError, RuntimeError):  # the latter is openvino's
        content = file.read_bytes()
        hashed, data = content[:_HASH_BYTES], content[_HASH_BYTES:]
        if hashlib.sha256(data).digest() == hashed:
            ready: openvino.CompiledModel = core.import_model(data, "CPU", options)
            return ready
    return None


def _keep(ready: openvino.CompiledModel, file: Path) -> None:
    """Write what `_read` reads, as a whole or, where that is not possible, not at all."""
    with contextlib.suppress(RuntimeError):  # openvino's, which does not export every network
        data = ready.export_model().getbuffer()
        write_whole(file, hashlib.sha256(data).digest(), data)
