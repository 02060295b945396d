"""Which engine runs a model here, and why."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines.devices import resolve_device
from napari_nnunet_cpu.engines.engine import Engine
from napari_nnunet_cpu.engines.int8.int8 import Crops, int8_or_f32, why_not_int8
from napari_nnunet_cpu.engines.openvino.library import load_openvino
from napari_nnunet_cpu.engines.openvino.openvino_engine import OpenVINOEngine
from napari_nnunet_cpu.engines.timing import measure_pace, read_pace
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.resources import installed_version, is_x86, usable_cores
from napari_nnunet_cpu.settings import Settings

_ASKED_FOR = "asked for"
_CORES_OF_A_STREAM = 8  # small layers keep no more of them busy
_TILES_OF_A_STREAM = 4  # else those that have nothing left to do at the end cost more than is gained


def _no_crops(_size: tuple[int, ...], _most: int) -> Iterator[npt.NDArray[np.float32]]:
    return iter(())


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """What a run will take.

    Attributes
    ----------
    engine : {"openvino", "torch"}
        Name of the engine.
    device : str
        As `resolve_device` gives it.
    reason : str
        Why, in one line.
    precision : {"f32", "int8"}
        Of the network. Whether it is int8 in the end depends on the image.
    precision_reason : str
        Where int8 is asked for: why it can't be had, or what it depends on.
    to_measure : bool
        The engine is a guess: the first run of such a network times both.
    """

    engine: str
    device: str
    reason: str
    precision: str = "f32"
    precision_reason: str = ""
    to_measure: bool = False


def plan_engine(model: TrainedModel, settings: Settings) -> EnginePlan:
    """Say what `choose_engine` will make, without reading weights or converting anything.

    It can still come to torch, when OpenVINO turns out not to express the network, and from int8 to
    float32, when the two do not agree on the image.

    Raises
    ------
    DeviceError
        When the device does not exist here.
    EngineError
        When OpenVINO is asked for and can't be loaded.
    """
    choice = _plan_f32(model, settings)
    if settings.precision == "f32":
        return choice
    obstacle = why_not_int8(choice.engine)
    if obstacle:
        return replace(choice, precision_reason=f"f32, not int8: {obstacle}")
    return replace(choice, precision="int8", precision_reason="int8 if it agrees with f32 on the image")


def _plan_f32(model: TrainedModel, settings: Settings) -> EnginePlan:
    if settings.engine == "openvino":
        load_openvino()
        return EnginePlan("openvino", "cpu", _ASKED_FOR)
    device = resolve_device(settings.device)
    if settings.engine == "torch":
        return EnginePlan("torch", device, _ASKED_FOR)
    if device != "cpu":
        return EnginePlan("torch", device, f"openvino does not compute on {device}")
    try:
        load_openvino()
    except EngineError as error:
        return EnginePlan("torch", device, str(error))
    machine = platform.machine()
    # Where OpenVINO was faster for every network tried. On other processors it depends, so that a pass is timed.
    if is_x86():
        return EnginePlan("openvino", device, f"the faster one on {machine} processors")
    pace = read_pace(model, threads_of(settings))
    if pace is not None:
        return EnginePlan(pace.faster, device, str(pace))
    return EnginePlan("openvino", device, f"to be compared with torch in the first run, on {machine}", to_measure=True)


def choose_engine(
    model: TrainedModel, settings: Settings, crops: Crops = _no_crops, features: bool = False, streams: int = 1
) -> Engine:
    """Make the engine that the settings ask for, with the model's weights in it.

    Parameters
    ----------
    model, settings
        What to run, and how.
    crops : callable, optional
        Parts of the image to be segmented: int8 needs them.
    features : bool
        Whether it is to give features, and a `head_layer`, instead of logits; of one fold of a U-Net.
    streams : int
        Passes at a time, see `most_streams`; torch computes one.

    Returns
    -------
    Engine
        Its `reason` says why it was chosen.

    Raises
    ------
    DeviceError
        When the device does not exist here.
    ModelError
        When the weights can't be read or do not fit.
    EngineError
        When the weights do not fit into memory, or OpenVINO is asked for and can't be had.
    """
    choice, threads = plan_engine(model, settings), threads_of(settings)
    reason = _joined(choice.reason, choice.precision_reason)
    if choice.engine == "torch":
        return _torch(model, choice.device, threads, reason, features)
    try:
        if choice.precision == "int8":
            return int8_or_f32(model, threads, settings.agreement, crops, choice.reason, features, streams)
        engine = OpenVINOEngine(model, threads, reason, features=features, streams=streams)
        return _faster(model, threads, engine, choice.precision_reason) if choice.to_measure else engine
    except EngineError as error:
        if settings.engine == "openvino":
            raise
        return _torch(model, choice.device, threads, str(error), features)


def _faster(model: TrainedModel, threads: int, openvino: Engine, precision_reason: str) -> Engine:
    torch = _torch(model, "cpu", threads, "", openvino.head_layer is not None)
    pace = measure_pace(model, threads, openvino, torch)
    chosen = openvino if pace.faster == "openvino" else torch
    chosen.reason = _joined(str(pace), precision_reason)
    return chosen


def _torch(model: TrainedModel, device: str, threads: int, reason: str, features: bool) -> Engine:
    from napari_nnunet_cpu.engines.torch_engine import TorchEngine

    return TorchEngine(model, device, threads, reason, features=features)


def _joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def threads_of(settings: Settings) -> int:
    """CPU threads of a run."""
    return settings.threads or usable_cores()


def most_streams(settings: Settings, tiles: int) -> int:
    """Passes of a run of so many tiles at a time, at most: as many as asked for, or one for every 8 cores up to 4."""
    if not takes_openvino(settings):
        return 1
    threads = threads_of(settings)
    cores = threads + 1  # the viewer leaves one to the window
    wanted = settings.streams or min(cores // _CORES_OF_A_STREAM, 4)
    return max(1, min(wanted, threads, tiles // _TILES_OF_A_STREAM))


def takes_openvino(settings: Settings) -> bool:
    """Whether OpenVINO is to compute, as far as that is known before a network is read."""
    asked_for = settings.engine != "torch" and settings.device in ("auto", "cpu")
    return asked_for and installed_version("openvino") is not None
