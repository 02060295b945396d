"""Choose the engine for a model on this computer, with the reason."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.engines.devices import resolve_device
from napari_nnunet_cpu.engines.engine import Engine
from napari_nnunet_cpu.engines.int8 import Crops, int8_obstacle, int8_or_f32
from napari_nnunet_cpu.engines.openvino import OpenVINOEngine, load_openvino
from napari_nnunet_cpu.engines.timing import measure_timing, read_timing
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.resources import installed_version, is_x86, usable_cores
from napari_nnunet_cpu.settings import Settings

_CHOSEN_BY_USER = "asked for"
_CORES_PER_STREAM = 8  # because small layers keep no more cores busy
_TILES_PER_STREAM = 4  # because with fewer tiles, idle streams at the end cost more than is gained


def _no_crops(_size: tuple[int, ...], _most: int) -> Iterator[npt.NDArray[np.float32]]:
    return iter(())


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """The choice of an engine before a run."""

    engine: str  # "openvino" or "torch"
    device: str  # from `resolve_device`
    reason: str  # in one line
    precision: str = "f32"  # or "int8", if the image agrees in the end
    precision_reason: str = ""  # if the user wants int8: the obstacle, or the condition
    to_measure: bool = False  # the engine is a guess, so the first run of such a network times both


def plan_engine(model: TrainedModel, settings: Settings) -> EnginePlan:
    """Predict the choice of `choose_engine` without reading weights or converting a network.

    The engine may still become torch, if OpenVINO does not support the network, and the precision f32, if int8
    does not agree with it on the image. Raises `DeviceError` if the device does not exist, and `EngineError` if
    the user wants OpenVINO and it can't be loaded.
    """
    plan = _plan_f32(model, settings)
    if settings.precision == "f32":
        return plan
    obstacle = int8_obstacle(plan.engine)
    if obstacle:
        return replace(plan, precision_reason=f"f32, not int8: {obstacle}")
    return replace(plan, precision="int8", precision_reason="int8 if it agrees with f32 on the image")


def _plan_f32(model: TrainedModel, settings: Settings) -> EnginePlan:
    if settings.engine == "openvino":
        load_openvino()
        return EnginePlan("openvino", "cpu", _CHOSEN_BY_USER)
    device = resolve_device(settings.device)
    if settings.engine == "torch":
        return EnginePlan("torch", device, _CHOSEN_BY_USER)
    if device != "cpu":
        return EnginePlan("torch", device, f"openvino does not compute on {device}")
    try:
        load_openvino()
    except EngineError as error:
        return EnginePlan("torch", device, str(error))
    machine = platform.machine()
    # On x86 OpenVINO was faster for every network we tried. On other processors it depends, so the first run measures.
    if is_x86():
        return EnginePlan("openvino", device, f"the faster one on {machine} processors")
    timing = read_timing(model, threads_of(settings))
    if timing is not None:
        return EnginePlan(timing.faster, device, str(timing))
    return EnginePlan("openvino", device, f"to be compared with torch in the first run, on {machine}", to_measure=True)


def choose_engine(
    model: TrainedModel, settings: Settings, crops: Crops = _no_crops, features: bool = False, streams: int = 1
) -> Engine:
    """Make the engine for the settings, with the weights of the model.

    `crops` yields crops of the image, for the calibration and check of int8. With `features`, which needs one fold of a
    U-Net, the engine returns features and has a `head_layer`. `streams` is the number of passes at the same time, see
    `most_streams`; torch computes one.

    Raises `DeviceError` if the computer does not have the device, `ModelError` if the weights can't be read or do not
    fit, and `EngineError` if they do not fit into memory, or the user wants OpenVINO and it fails.
    """
    plan, threads = plan_engine(model, settings), threads_of(settings)
    reason = _joined(plan.reason, plan.precision_reason)
    if plan.engine == "torch":
        return _torch(model, plan.device, threads, reason, features)
    try:
        if plan.precision == "int8":
            return int8_or_f32(model, threads, settings.agreement, crops, plan.reason, features, streams)
        engine = OpenVINOEngine(model, threads, reason, features=features, streams=streams)
        return _faster(model, threads, engine, plan.precision_reason) if plan.to_measure else engine
    except EngineError as error:
        if settings.engine == "openvino":
            raise
        return _torch(model, plan.device, threads, str(error), features)


def _faster(model: TrainedModel, threads: int, openvino: Engine, precision_reason: str) -> Engine:
    torch = _torch(model, "cpu", threads, "", openvino.head_layer is not None)
    timing = measure_timing(model, threads, openvino, torch)
    chosen = openvino if timing.faster == "openvino" else torch
    chosen.reason = _joined(str(timing), precision_reason)
    return chosen


def _torch(model: TrainedModel, device: str, threads: int, reason: str, features: bool) -> Engine:
    from napari_nnunet_cpu.engines.torch_engine import TorchEngine

    return TorchEngine(model, device, threads, reason, features=features)


def _joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def threads_of(settings: Settings) -> int:
    """The number of CPU threads of a run."""
    return settings.threads or usable_cores()


def most_streams(settings: Settings, tiles: int) -> int:
    """The maximum of passes at the same time, for a run of this many tiles: from the settings, or one per 8 cores."""
    if not takes_openvino(settings):
        return 1
    threads = threads_of(settings)
    cores = threads + 1  # because the viewer leaves one core to the window
    wanted = settings.streams or min(cores // _CORES_PER_STREAM, 4)
    return max(1, min(wanted, threads, tiles // _TILES_PER_STREAM))


def likely_engine(settings: Settings) -> Literal["torch", "openvino", "int8"]:
    """The engine that will probably compute, from the settings alone; "int8" is that of OpenVINO."""
    if not takes_openvino(settings):
        return "torch"
    return "int8" if settings.precision == "int8" and not int8_obstacle("openvino") else "openvino"


def takes_openvino(settings: Settings) -> bool:
    """Whether OpenVINO will probably compute, from the settings alone."""
    wanted = settings.engine != "torch" and settings.device in ("auto", "cpu")
    return wanted and installed_version("openvino") is not None
