import pytest
import torch

from napari_nnunet_cpu.engines import available_devices, devices, resolve_device
from napari_nnunet_cpu.errors import DeviceError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_gpu_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu() -> None:
    assert [device.name for device in available_devices()] == ["cpu"]
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    for wanted in ("cuda", "cuda:0", "mps"):
        with pytest.raises(DeviceError, match=f"device {wanted} is not available .*; this machine has cpu$"):
            resolve_device(wanted)


@pytest.mark.usefixtures("two_gpus")
def test_with_gpus() -> None:
    assert [(device.name, device.label) for device in available_devices()][1:] == [
        ("cuda:0", "GPU 0, Card 0"),
        ("cuda:1", "GPU 1, Card 1"),
    ]
    assert resolve_device("auto") == resolve_device("cuda") == "cuda:0"
    assert resolve_device("cuda:1") == "cuda:1"
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(DeviceError, match="device cuda:2 is not available .*; this machine has cpu, cuda:0, cuda:1$"):
        resolve_device("cuda:2")


@pytest.mark.usefixtures("no_gpu")
def test_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match="was built without CUDA"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(DeviceError, match="no NVIDIA GPU of this number"):
        resolve_device("cuda:7")
    with pytest.raises(DeviceError, match="Apple"):
        resolve_device("mps")


@pytest.mark.usefixtures("no_gpu")
def test_cores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_nnunet_cpu.engines.devices.usable_cores", lambda: 1)
    assert available_devices()[0].label == "CPU, 1 core"
    monkeypatch.setattr("napari_nnunet_cpu.engines.devices.usable_cores", lambda: 6)
    assert available_devices()[0].label == "CPU, 6 cores"


@pytest.mark.usefixtures("two_gpus")
def test_without_a_driver_torch_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_gpu_driver", lambda: False)
    assert [device.name for device in available_devices()] == ["cpu"]
    assert resolve_device("auto") == "cpu"
    assert resolve_device("cuda") == "cuda:0"


@pytest.mark.parametrize(
    ("system", "processor", "there", "driver"),
    [
        ("linux", "x86_64", [], False),
        ("linux", "x86_64", ["/dev/nvidiactl"], True),
        ("linux", "x86_64", ["/dev/dxg"], True),
        ("linux", "x86_64", ["/dev/kfd"], True),
        ("win32", "AMD64", ["C:/Windows/System32/nvcuda.dll"], True),
        ("win32", "AMD64", [], False),
        ("darwin", "arm64", [], True),
        ("darwin", "x86_64", [], False),
    ],
)
def test_where_a_gpu_may_be(
    monkeypatch: pytest.MonkeyPatch, system: str, processor: str, there: list[str], driver: bool
) -> None:
    monkeypatch.setattr(devices.sys, "platform", system)
    monkeypatch.setattr(devices.platform, "machine", lambda: processor)
    monkeypatch.setattr(devices.Path, "exists", lambda path: path.as_posix() in there)
    assert devices._gpu_driver() is driver
