"""Which engine runs a model here, and why."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from napari_nnunet_cpu.engines.devices import resolve_device
from napari_nnunet_cpu.engines.engine import Engine
from napari_nnunet_cpu.engines.library import load_openvino
from napari_nnunet_cpu.engines.pace import measure_pace, read_pace
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.resources import usable_cores
from napari_nnunet_cpu.settings import Settings

_ASKED_FOR = "asked for"
# Where OpenVINO was faster for every network tried. On other processors it depends, so that a pass is timed.
_OPENVINO_IS_FASTER = ("x86_64", "amd64")


@dataclass(frozen=True, slots=True)
class Choice:
    """What a run will take.

    Attributes
    ----------
    engine : {"openvino", "torch"}
        Name of the engine.
    device : str
        As `resolve_device` gives it.
    reason : str
        Why, in one line.
    to_measure : bool
        The engine is a guess: the first run of such a network times both.
    """

    engine: str
    device: str
    reason: str
    to_measure: bool = False


def plan_engine(model: TrainedModel, settings: Settings) -> Choice:
    """Say what `choose_engine` will make, without reading weights or converting anything.

    It can still come to torch, when OpenVINO turns out not to express the network.

    Raises
    ------
    DeviceError
        When the device does not exist here.
    EngineError
        When OpenVINO is asked for and can't be loaded.
    """
    if settings.engine == "openvino":
        load_openvino()
        return Choice("openvino", "cpu", _ASKED_FOR)
    device = resolve_device(settings.device)
    if settings.engine == "torch":
        return Choice("torch", device, _ASKED_FOR)
    if device != "cpu":
        return Choice("torch", device, f"openvino does not compute on {device}")
    try:
        load_openvino()
    except EngineError as error:
        return Choice("torch", device, str(error))
    machine = platform.machine()
    if machine.lower() in _OPENVINO_IS_FASTER:
        return Choice("openvino", device, f"the faster one on {machine} processors")
    pace = read_pace(model, _threads(settings))
    if pace is not None:
        return Choice(pace.faster, device, str(pace))
    return Choice("openvino", device, f"to be compared with torch in the first run, on {machine}", to_measure=True)


def choose_engine(model: TrainedModel, settings: Settings) -> Engine:
    """Make the engine that the settings ask for, with the model's weights in it.

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
    choice, threads = plan_engine(model, settings), _threads(settings)
    if choice.engine == "torch":
        return _torch(model, choice.device, threads, choice.reason)
    from napari_nnunet_cpu.engines.openvino_engine import OpenVINOEngine

    try:
        engine = OpenVINOEngine(model, threads, choice.reason)
        return _faster(model, threads, engine) if choice.to_measure else engine
    except EngineError as error:
        if settings.engine == "openvino":
            raise
        return _torch(model, choice.device, threads, str(error))


def _faster(model: TrainedModel, threads: int, openvino: Engine) -> Engine:
    torch = _torch(model, "cpu", threads, "")
    pace = measure_pace(model, threads, openvino, torch)
    chosen = openvino if pace.faster == "openvino" else torch
    chosen.reason = str(pace)
    return chosen


def _torch(model: TrainedModel, device: str, threads: int, reason: str) -> Engine:
    from napari_nnunet_cpu.engines.torch_engine import TorchEngine

    return TorchEngine(model, device, threads, reason)


def _threads(settings: Settings) -> int:
    return settings.threads or usable_cores()
