import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from napari_nnunet_cpu import Settings, TrainedModel
from napari_nnunet_cpu.engines import Engine, choose_engine, plan_engine
from napari_nnunet_cpu.engines.openvino.openvino_engine import OpenVINOEngine
from napari_nnunet_cpu.engines.timing import EngineTiming
from napari_nnunet_cpu.errors import DeviceError, EngineError, ModelError

pytestmark = pytest.mark.slow

MISSING = "openvino is not installed; install it with 'pip install openvino'"
ON_CPU = Settings(device="cpu", threads=1)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that this is another machine."""

    def machine(processor: str = "x86_64", *, openvino: bool = True, gpu: str | None = None) -> None:
        monkeypatch.setattr(platform, "machine", lambda: processor)
        monkeypatch.setattr("napari_nnunet_cpu.engines.devices._gpu_driver", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu == "cuda")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: gpu == "mps")
        if not openvino:
            monkeypatch.setitem(sys.modules, "openvino", None)

    return machine


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch) -> list[EngineTiming]:
    """What measuring gives, in turn."""
    planned: list[EngineTiming] = []
    monkeypatch.setattr("napari_nnunet_cpu.engines.choose.measure_timing", lambda *_: planned.pop(0))
    return planned


@pytest.mark.parametrize(
    ("options", "here", "engine", "device", "reason"),
    [
        ({}, {}, "openvino", "cpu", "the faster one on x86_64 processors"),
        ({}, {"processor": "AMD64"}, "openvino", "cpu", "the faster one on AMD64 processors"),
        ({}, {"processor": "arm64"}, "openvino", "cpu", "to be compared with torch in the first run, on arm64"),
        ({}, {"openvino": False}, "torch", "cpu", MISSING),
        ({}, {"gpu": "cuda"}, "torch", "cuda:0", "openvino does not compute on cuda:0"),
        ({}, {"gpu": "mps", "processor": "arm64"}, "torch", "mps", "openvino does not compute on mps"),
        ({"device": "cpu"}, {"gpu": "cuda"}, "openvino", "cpu", "the faster one on x86_64 processors"),
        ({"device": "cuda"}, {"gpu": "cuda"}, "torch", "cuda:0", "openvino does not compute on cuda:0"),
        ({"engine": "torch"}, {}, "torch", "cpu", "asked for"),
        ({"engine": "torch"}, {"gpu": "cuda"}, "torch", "cuda:0", "asked for"),
        ({"engine": "openvino"}, {}, "openvino", "cpu", "asked for"),
        ({"engine": "openvino"}, {"gpu": "cuda"}, "openvino", "cpu", "asked for"),
        ({"engine": "openvino"}, {"processor": "arm64"}, "openvino", "cpu", "asked for"),
    ],
)
@pytest.mark.usefixtures("cache", "no_torch_network")
def test_what_will_be_chosen(
    model: TrainedModel,
    machine: Callable[..., None],
    options: dict[str, Any],
    here: dict[str, Any],
    engine: str,
    device: str,
    reason: str,
) -> None:
    machine(**here)
    choice = plan_engine(model, Settings(**options))
    assert (choice.engine, choice.device, choice.reason) == (engine, device, reason)
    assert choice.to_measure == reason.startswith("to be compared")


@pytest.mark.parametrize("make", [plan_engine, choose_engine])
def test_openvino_that_is_asked_for_must_be_there(
    model: TrainedModel, machine: Callable[..., None], make: Callable[..., object]
) -> None:
    machine(openvino=False)
    with pytest.raises(EngineError, match=f"^{MISSING}$"):
        make(model, Settings(engine="openvino"))


@pytest.mark.parametrize("make", [plan_engine, choose_engine])
def test_a_device_that_is_asked_for_must_be_there(
    model: TrainedModel, machine: Callable[..., None], make: Callable[..., object]
) -> None:
    machine()
    with pytest.raises(DeviceError, match="device cuda is not available"):
        make(model, Settings(device="cuda"))


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_the_engine_is_the_one_asked_for(model: TrainedModel, name: str) -> None:
    engine = choose_engine(model, Settings(engine=name, device="cpu", threads=1))
    assert (engine.name, engine.device, engine.precision) == (name, "cpu", "f32")
    assert (engine.threads, engine.folds, engine.reason) == (1, 2, "asked for")


@pytest.mark.parametrize(("name", "streams"), [("openvino", 2), ("torch", 1)])
def test_passes_at_a_time(model: TrainedModel, name: str, streams: int) -> None:
    engine = choose_engine(model, Settings(engine=name, device="cpu", threads=2), streams=2)
    assert engine.streams == streams


def test_the_engine_is_the_one_that_was_planned(model: TrainedModel, machine: Callable[..., None]) -> None:
    machine()
    engine = choose_engine(model, ON_CPU)
    assert (engine.name, engine.reason) == ("openvino", "the faster one on x86_64 processors")
    machine(openvino=False)
    engine = choose_engine(model, ON_CPU)
    assert (engine.name, engine.reason) == ("torch", MISSING)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes every conversion fail."""

    def failing(error: Exception) -> None:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr("napari_nnunet_cpu.engines.openvino.conversion.convert", fail)

    return failing


@pytest.mark.usefixtures("cache")
def test_torch_takes_over_what_openvino_can_not_express(
    model: TrainedModel,
    machine: Callable[..., None],
    failing: Callable[[Exception], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    machine()
    failing(EngineError("the network can't be converted for openvino: no rule for aten::odd"))
    engine = choose_engine(model, ON_CPU)
    assert (engine.name, engine.device) == ("torch", "cpu")
    assert engine.reason == "the network can't be converted for openvino: no rule for aten::odd"
    assert engine.forward(np.zeros((1, 8, 8, 8), np.float32), 0).shape == (3, 8, 8, 8)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("cache")
def test_it_does_not_where_openvino_is_asked_for(model: TrainedModel, failing: Callable[[Exception], None]) -> None:
    failing(EngineError("the network can't be converted for openvino: no rule for aten::odd"))
    with pytest.raises(EngineError, match="no rule for aten::odd"):
        choose_engine(model, Settings(engine="openvino"))


@pytest.mark.usefixtures("cache")
def test_torch_does_not_take_over_a_damaged_model(
    model: TrainedModel, machine: Callable[..., None], failing: Callable[[Exception], None]
) -> None:
    machine()
    failing(ModelError("fold_0 is damaged"))
    with pytest.raises(ModelError, match="fold_0 is damaged"):
        choose_engine(model, ON_CPU)


@pytest.mark.parametrize(
    ("timing", "faster"), [(EngineTiming(1.0, 2.0), "openvino"), (EngineTiming(2.0, 1.0), "torch")]
)
@pytest.mark.usefixtures("cache")
def test_elsewhere_the_faster_one_is_found_out(
    model: TrainedModel, machine: Callable[..., None], timings: list[EngineTiming], timing: EngineTiming, faster: str
) -> None:
    machine("aarch64")
    timings.append(timing)
    engine = choose_engine(model, ON_CPU)
    assert (engine.name, engine.reason) == (faster, str(timing))


@pytest.mark.usefixtures("cache")
def test_why_it_is_not_int8_is_said_beside_it(
    model: TrainedModel, machine: Callable[..., None], timings: list[EngineTiming]
) -> None:
    machine("aarch64")
    timings.append(EngineTiming(1.0, 2.0))
    engine = choose_engine(model, Settings.fast(device="cpu", threads=1))
    assert (engine.name, engine.precision) == ("openvino", "f32")
    assert engine.reason == f"{EngineTiming(1.0, 2.0)}; f32, not int8: this CPU has no VNNI, the instructions for it"


@pytest.mark.usefixtures("cache")
def test_the_answer_is_remembered(
    model: TrainedModel, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("aarch64")
    passes = {"openvino": 0, "torch": 0}
    clock = {"now": 0.0}

    def forward(engine: Engine, patch: np.ndarray, fold: int) -> np.ndarray:
        passes[engine.name] += 1
        clock["now"] += {"openvino": 3.0, "torch": 2.0}[engine.name]
        return patch

    monkeypatch.setattr("time.perf_counter", lambda: clock["now"])
    monkeypatch.setattr(OpenVINOEngine, "forward", forward)
    monkeypatch.setattr("napari_nnunet_cpu.engines.torch_engine.TorchEngine.forward", forward)
    measured = "measured on this computer: openvino 3 s a pass, torch 2 s"
    for _ in range(2):
        engine = choose_engine(model, ON_CPU)
        assert (engine.name, engine.reason) == ("torch", measured)
        assert passes == {"openvino": 2, "torch": 2}
    choice = plan_engine(model, ON_CPU)
    assert (choice.engine, choice.reason, choice.to_measure) == ("torch", measured, False)
    assert plan_engine(model, Settings(device="cpu", threads=2)).to_measure


@pytest.mark.usefixtures("cache")
def test_torch_takes_over_where_the_measurement_fails(
    model: TrainedModel, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("aarch64")

    def fail(*_: object) -> None:
        raise EngineError("running the network failed: illegal instruction")

    monkeypatch.setattr(OpenVINOEngine, "forward", fail)
    engine = choose_engine(model, ON_CPU)
    assert (engine.name, engine.reason) == ("torch", "running the network failed: illegal instruction")
