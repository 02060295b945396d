"""Networks that are kept ready to run: used again, never trusted when damaged, done without when they can't be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_nnunet_cpu import TrainedModel
from napari_nnunet_cpu.engines.openvino import compiled as module
from napari_nnunet_cpu.engines.openvino.compiled import compiled
from napari_nnunet_cpu.engines.openvino.conversion import convert
from napari_nnunet_cpu.engines.openvino.last_layer import without_last_layer

SHAPE = (1, 1, 8, 8, 8)


@pytest.fixture(scope="module")
def network(model: TrainedModel) -> Any:
    return convert(model, 0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "network"
    path.mkdir()
    return path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The networks that were made ready, not read."""
    networks: list[Any] = []
    through = module.normalize_exactly

    def seen(network: Any) -> None:
        networks.append(network)
        through(network)

    monkeypatch.setattr(module, "normalize_exactly", seen)
    return networks


def output(network: Any, folder: Path | None, shape: tuple[int, ...] = SHAPE, threads: int = 1) -> np.ndarray:
    patch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return np.array(compiled(network.clone(), shape, threads, folder)([patch])[0])


def test_it_is_made_once(network: Any, folder: Path, made: list[Any]) -> None:
    expected = output(network, None)
    assert len(made) == 1
    for _ in range(3):
        np.testing.assert_array_equal(output(network, folder), expected)
    assert len(made) == 2
    (file,) = folder.iterdir()
    assert file.suffix == ".compiled"


def test_what_differs_is_made_anew(
    network: Any, folder: Path, made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    output(network, folder)
    assert output(network, folder, (1, 1, 16, 8, 8)).shape == (1, 3, 16, 8, 8)
    output(network, folder, threads=2)
    features, _ = without_last_layer(network.clone())
    assert output(features, folder).shape == (1, 8, 8, 8, 3)
    np.testing.assert_array_equal(output(features, folder), output(features, None))
    monkeypatch.setattr(module, "_VERSION", 0)
    output(network, folder)
    assert len(made) == 6
    assert len(list(folder.iterdir())) == 5


def flip_a_bit(data: bytearray) -> bytes:
    data[len(data) // 2] ^= 0x40
    return bytes(data)


def cut(data: bytearray) -> bytes:
    return bytes(data[:-100])


def nothing(_data: bytearray) -> bytes:
    return b""


def of_another_openvino(data: bytearray) -> bytes:
    """Its hash is right, but it can't be read."""
    return module.hashlib.sha256(data[100:]).digest() + bytes(data[100:])


@pytest.mark.parametrize("harm", [flip_a_bit, cut, nothing, of_another_openvino])
def test_a_damaged_file_is_made_again(
    network: Any, folder: Path, made: list[Any], harm: Callable[[bytearray], bytes]
) -> None:
    expected = output(network, folder)
    (file,) = folder.iterdir()
    file.write_bytes(harm(bytearray(file.read_bytes())))
    for _ in range(2):
        np.testing.assert_array_equal(output(network, folder), expected)
    assert len(made) == 2


def test_there_may_be_no_folder(network: Any, folder: Path, made: list[Any]) -> None:
    expected = output(network, folder / "missing")
    np.testing.assert_array_equal(output(network, folder / "missing"), expected)
    assert len(made) == 2
    assert list(folder.iterdir()) == []


def test_the_disk_may_be_full(network: Any, folder: Path, made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_from: Path, _to: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    np.testing.assert_array_equal(output(network, folder), output(network, None))
    assert list(folder.iterdir()) == []
