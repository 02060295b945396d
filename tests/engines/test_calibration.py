import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rich

from napari_nnunet_cpu import TrainedModel
from napari_nnunet_cpu.engines.int8.calibration import Sample, crop_size, find_samples, label, quantized
from napari_nnunet_cpu.engines.openvino.library import load_nncf, load_openvino
from napari_nnunet_cpu.engines.openvino.openvino_engine import f32_networks
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.models.network.primus import Primus

ORGANS = Labels({0: "background", 1: "liver", 2: "spleen"}, heads=3, foreground=(1, 2))


class Intensities:
    """An engine whose labels are the intensities of the crop, plus the fold."""

    folds = 1

    def __init__(self) -> None:
        self.calls = 0

    def forward(self, patch: np.ndarray, fold: int) -> np.ndarray:
        self.calls += 1
        return np.stack([-((patch[0] + fold - head) ** 2) for head in range(3)])


def crops(*labels: list[int]) -> Iterator[np.ndarray]:
    return (np.array([values], np.float32) for values in labels)


def with_architecture(model: TrainedModel, patch: tuple[int, ...], **changes: Any) -> TrainedModel:
    architecture = model.architecture.model_copy(update=changes)
    configuration = model.configuration.model_copy(update={"patch_size": patch})
    return replace(model, architecture=architecture, configuration=configuration)


@pytest.mark.parametrize(
    ("patch", "strides", "size"),
    [
        ((8, 8, 8), (1, 2), (4, 4, 4)),
        ((96, 160, 20), (1, 2), (48, 80, 10)),
        ((12, 20, 28), (1, 4), (8, 8, 12)),  # half is no multiple of 4: below it where two voxels are left
        ((4, 6, 8), (1, 2), (4, 4, 4)),  # two voxels need 4
        ((3, 32, 32), (1, (1, 4, 2)), (2, 16, 16)),
    ],
)
def test_crops_are_half_a_patch_that_the_network_can_take(
    model: TrainedModel, patch: tuple[int, ...], strides: tuple[Any, ...], size: tuple[int, ...]
) -> None:
    assert crop_size(with_architecture(model, patch, strides=strides)) == size


def test_a_primus_takes_its_patch_alone(model: TrainedModel) -> None:
    assert crop_size(replace(model, architecture=Primus("PrimusS", (8, 8, 8)))) == (8, 8, 8)


def test_crops_with_foreground_come_first_and_most_classes_before() -> None:
    engine = Intensities()
    found = find_samples(engine, crops([0, 0, 0], [0, 1, 1], [2, 2, 2], [0, 1, 2], [1, 1, 2]), ORGANS, 4)
    assert [sample.winners.tolist() for sample in found] == [[0, 1, 2], [1, 1, 2], [0, 1, 1], [2, 2, 2]]
    assert [sample.crop.tolist() for sample in found] == [[[0, 1, 2]], [[1, 1, 2]], [[0, 1, 1]], [[2, 2, 2]]]
    assert engine.calls == 5


def test_no_more_crops_are_run_than_it_takes() -> None:
    engine = Intensities()
    assert len(find_samples(engine, crops(*[[0], [1], [0], [1]] * 9), ORGANS, 3)) == 3
    assert engine.calls == 6


def test_a_few_with_foreground_are_enough() -> None:
    found = find_samples(Intensities(), crops([0], [1], [0], [2]), ORGANS, 8)
    assert [sample.winners.tolist() for sample in found] == [[1], [2]]


def test_where_hardly_one_has_foreground_others_do() -> None:
    found = find_samples(Intensities(), crops([0, 0], [0, 0], [0, 1], [0, 0], [0, 0]), ORGANS, 3)
    assert [sample.winners.tolist() for sample in found] == [[0, 1], [0, 0], [0, 0]]
    assert find_samples(Intensities(), crops(), ORGANS, 3) == []


def test_folds_decide_together() -> None:
    engine = Intensities()
    engine.folds = 2
    # Of intensities 0 and 1 the folds say 0 or 1, and 1 or 2: a half less than what they are together.
    np.testing.assert_array_equal(label(engine, np.array([[0.2, 0.8]], np.float32), ORGANS), [1, 1])


@pytest.fixture
def samples() -> list[Sample]:
    generator = np.random.default_rng(0)
    return [Sample(generator.normal(size=(1, 4, 4, 4)).astype(np.float32), np.zeros(0)) for _ in range(2)]


@pytest.fixture
def network(model: TrainedModel) -> Any:
    return next(f32_networks(model, 1))


def sources(node: Any) -> set[str]:
    """What the first input of a node comes from."""
    return {node.input_value(0).get_node().get_type_name()}


def types_before(node: Any) -> list[Any]:
    """Types of the numbers that a node is computed from, step by step."""
    types = []
    while node.get_input_size():
        node = node.input_value(0).get_node()
        types.append(node.get_element_type())
    return types


def test_convolutions_are_quantized_and_normalizations_are_not(network: Any, samples: list[Sample]) -> None:
    before = [node.get_type_name() for node in network.get_ordered_ops()]
    found = quantized(network, samples)
    assert [node.get_type_name() for node in network.get_ordered_ops()] == before
    assert list(network.input(0).shape) == [1, 1, 8, 8, 8]
    convolutions = [node for node in found.get_ordered_ops() if node.get_type_name() == "Convolution"]
    assert len(convolutions) == 4
    *convolutions, last = convolutions
    assert sources(last) == {"PRelu"}
    assert load_openvino().Type.i8 not in types_before(last.input_value(1).get_node())
    for convolution in convolutions:
        assert sources(convolution) <= {"FakeQuantize", "Concat"}
        assert load_openvino().Type.i8 in types_before(convolution.input_value(1).get_node())
    normalizations = [node for node in found.get_ordered_ops() if node.get_type_name() == "MVN"]
    assert [sources(node) for node in normalizations] == [{"Add"}] * 3


def test_nothing_is_printed_and_nothing_left_behind(
    network: Any, samples: list[Sample], capfd: pytest.CaptureFixture[str]
) -> None:
    loggers, filters = logging.getLoggerClass(), list(warnings.filters)
    quantized(network, samples)
    assert capfd.readouterr() == ("", "")
    assert logging.getLoggerClass() is loggers
    assert warnings.filters == filters
    assert not logging.getLogger("nncf").disabled
    assert not rich.get_console().quiet


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("at a.cpp:1:\nno rule for it."), "nncf can't quantize the network: no rule for it"),
        (KeyError("x"), "nncf can't quantize the network: 'x'"),
        (MemoryError(), "calibrating it ran out of memory"),
    ],
    ids=repr,
)
def test_what_nncf_raises_becomes_ours(
    network: Any, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(load_nncf(), "quantize", fail)
    with pytest.raises(EngineError) as raised:
        quantized(network, samples)
    assert str(raised.value) == said
    assert not rich.get_console().quiet
