from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from random_model import RandomModel

from napari_nnunet_cpu import Settings, TrainedModel, load_model
from napari_nnunet_cpu.engines import choose_engine
from napari_nnunet_cpu.engines.torch_engine import TorchEngine
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.resources import usable_cores

PATCH = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch set to one thread, whatever the test does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Network(torch.nn.Module):
    """Stands in for the model's network."""

    def __init__(self, forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(x)


def engine_with(
    forward: Callable[[torch.Tensor], torch.Tensor],
    model: TrainedModel,
    monkeypatch: pytest.MonkeyPatch,
    threads: int = 1,
) -> TorchEngine:
    monkeypatch.setattr(TrainedModel, "network", lambda _self, _fold: Network(forward))
    return TorchEngine(model, "cpu", threads)


def raises(error: Exception) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(_x: torch.Tensor) -> torch.Tensor:
        raise error

    return forward


def test_logits_are_the_networks(model: TrainedModel) -> None:
    engine = TorchEngine(model, "cpu", 1)
    assert engine.folds == 2
    for fold in range(2):
        with torch.no_grad():
            expected = model.network(fold)(torch.from_numpy(PATCH)[None])[0].numpy()
        found = engine.forward(PATCH, fold)
        assert found.shape == (3, 8, 8, 8)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(engine.forward(PATCH, 0) - engine.forward(PATCH, 1)).max() > 0.1


def test_flat_network(tmp_path: Path) -> None:
    model = load_model(RandomModel(patch=(8, 8), spacing=(1.0, 1.0)).write(tmp_path))
    assert TorchEngine(model, "cpu", 1).forward(PATCH[:, 0], 0).shape == (3, 8, 8)


def test_the_patch_is_left_alone(model: TrainedModel) -> None:
    patch = PATCH.copy()
    TorchEngine(model, "cpu", 1).forward(patch, 0)
    assert np.array_equal(patch, PATCH)


def test_gradients_are_not_recorded(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    engine_with(lambda x: modes.append(torch.is_grad_enabled()) or x, model, monkeypatch).forward(PATCH, 0)
    assert modes == [False]
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_threads_are_taken_for_the_pass_alone(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    seen = []
    engine = engine_with(lambda x: seen.append(torch.get_num_threads()) or x, model, monkeypatch, threads=2)
    engine.forward(PATCH, 0)
    assert seen == [2]
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), MemoryError(), KeyboardInterrupt()], ids=repr)
def test_threads_are_given_back_after_an_error(
    error: BaseException, model: TrainedModel, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    engine = engine_with(raises(error), model, monkeypatch, threads=2)
    with pytest.raises((EngineError, KeyboardInterrupt)):
        engine.forward(PATCH, 0)
    assert torch.get_num_threads() == 1


def test_torchs_error_becomes_ours(model: TrainedModel) -> None:
    with pytest.raises(
        EngineError, match="running the network failed: .*expected input.* to have 1 channels"
    ) as raised:
        TorchEngine(model, "cpu", 1).forward(np.zeros((2, 8, 8, 8), np.float32), 0)
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), MemoryError()])
def test_lack_of_memory_is_said(error: Exception, model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="running the network: out of memory; free some"):
        engine_with(raises(error), model, monkeypatch).forward(PATCH, 0)


def test_an_error_without_text(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="failed: RuntimeError"):
        engine_with(raises(RuntimeError()), model, monkeypatch).forward(PATCH, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value: float, model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[0, 0, 1, 2, 3] = value
        return y

    with pytest.raises(EngineError, match="not finite"):
        engine_with(forward, model, monkeypatch).forward(PATCH, 0)


def test_chosen_engine_takes_every_core_unless_told(model: TrainedModel) -> None:
    engine = choose_engine(model, Settings(engine="torch", device="cpu"))
    assert (engine.name, engine.device, engine.precision, engine.folds) == ("torch", "cpu", "f32", 2)
    assert engine.threads == usable_cores()
    assert choose_engine(model, Settings(engine="torch", device="cpu", threads=3)).threads == 3
