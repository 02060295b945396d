import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_nnunet_cpu import TrainedModel
from napari_nnunet_cpu.engines.openvino.conversion import convert, example_patch
from napari_nnunet_cpu.engines.openvino.library import load_openvino
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.network.primus import Primus

Forward = Callable[[torch.Tensor], torch.Tensor]


class Network(torch.nn.Module):
    """Stands in for the model's network."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(x)


@pytest.fixture
def converted(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> Callable[[Forward], object]:
    """Converts a network that computes what it is told."""

    def converted(forward: Forward) -> object:
        monkeypatch.setattr(TrainedModel, "network", lambda _self, _fold: Network(forward))
        return convert(model, 0, 1)

    return converted


def three_heads(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x, 2 * x, -x], dim=1)


def test_shapes_are_the_models(model: TrainedModel) -> None:
    network = convert(model, 1, 1)
    assert list(network.input(0).shape) == [1, 1, 8, 8, 8]
    assert list(network.output(0).shape) == [1, 3, 8, 8, 8]
    assert network.output(0).element_type == load_openvino().Type.f32


def test_what_the_network_computes_is_kept(converted: Callable[[Forward], object]) -> None:
    patch = np.arange(512, dtype=np.float32).reshape(1, 1, 8, 8, 8)
    found = load_openvino().compile_model(converted(three_heads), "CPU")([patch])[0]
    np.testing.assert_array_equal(found, np.concatenate([patch, 2 * patch, -patch], axis=1))


def test_nothing_is_left_behind(converted: Callable[[Forward], object], capfd: pytest.CaptureFixture[str]) -> None:
    threads, filters = torch.get_num_threads(), list(warnings.filters)
    converted(three_heads)
    assert torch.get_num_threads() == threads
    assert warnings.filters == filters
    assert torch.is_grad_enabled()
    assert capfd.readouterr() == ("", "")


def test_what_openvino_does_not_know_is_named(
    converted: Callable[[Forward], object], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EngineError, match="can't be converted for openvino: .*aten::special_bessel_j0$") as raised:
        converted(lambda x: torch.special.bessel_j0(three_heads(x)))
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_network_that_fails(converted: Callable[[Forward], object]) -> None:
    def forward(_x: torch.Tensor) -> torch.Tensor:
        raise TypeError("first\nthe reason.")

    with pytest.raises(EngineError, match="can't be converted for openvino: the reason$"):
        converted(forward)


def test_lack_of_memory_is_said(converted: Callable[[Forward], object]) -> None:
    def forward(_x: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    with pytest.raises(EngineError, match="converting the network: out of memory; free some"):
        converted(forward)


def test_another_number_of_heads_is_refused(converted: Callable[[Forward], object]) -> None:
    with pytest.raises(EngineError, match=r"its logits would have the shape \(1, 1, 8, 8, 8\)$"):
        converted(lambda x: x + 1)


@pytest.mark.parametrize("factors", [[1.0, 1.1], [1.0, -1.0], [1.0, np.nan]])
def test_other_numbers_than_torchs_are_refused(converted: Callable[[Forward], object], factors: list[float]) -> None:
    remaining = iter(factors)  # the first is traced, with the second torch computes what is compared
    with pytest.raises(EngineError, match="its logits differ from torch's$"):
        converted(lambda x: three_heads(x) * next(remaining))


def test_the_example_has_two_voxels_at_the_bottleneck(model: TrainedModel) -> None:
    assert example_patch(model) == (2, 2, 4)
    strides = (1, (1, 2, 4), (3, 2, 1))
    flat = replace(model, architecture=model.architecture.model_copy(update={"strides": strides}))
    assert example_patch(flat) == (3, 4, 8)


def test_the_network_is_run_on_the_example_alone(converted: Callable[[Forward], object]) -> None:
    seen = set()
    converted(lambda x: seen.add(tuple(int(length) for length in x.shape)) or three_heads(x))
    assert seen == {(1, 1, 2, 2, 4)}


def test_a_primus_takes_its_own_patch_alone(model: TrainedModel) -> None:
    assert example_patch(replace(model, architecture=Primus("PrimusS", (8, 8, 8)))) == (8, 8, 8)
