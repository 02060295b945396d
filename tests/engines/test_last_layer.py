"""Engines that give features, and what makes logits of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_model import RandomModel

from napari_nnunet_cpu import Settings, TrainedModel, load_model
from napari_nnunet_cpu.engines import choose_engine
from napari_nnunet_cpu.engines.openvino.library import load_openvino
from napari_nnunet_cpu.engines.openvino.openvino_engine import OpenVINOEngine
from napari_nnunet_cpu.engines.torch_engine import TorchEngine
from napari_nnunet_cpu.errors import EngineError

pytestmark = pytest.mark.slow

MANY = {"background": 0} | {f"label {value}": value for value in range(1, 9)}
MODELS = {
    "3d": RandomModel(labels=MANY),
    "2d": RandomModel(labels=MANY, patch=(16, 12), spacing=(1.0, 1.0)),
    "residual decoder": RandomModel(labels=MANY, family="ResidualUNet"),
    "no norm": RandomModel(labels=MANY, architecture={"norm_op": None, "norm_op_kwargs": None}),
}


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return load_model(request.param.write(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_logits_are_made_of_features(model: TrainedModel, name: str) -> None:
    settings = Settings(engine=name, device="cpu", threads=1)
    whole, engine = (choose_engine(model, settings, lambda *_: iter(()), features) for features in (False, True))
    patch = np.random.default_rng(0).normal(size=(1, *model.configuration.patch_size)).astype(np.float32)
    expected = whole.forward(patch, 0)
    features = engine.forward(patch, 0)
    assert whole.head_layer is None
    assert engine.head_layer is not None
    assert (engine.head_layer.heads, engine.head_layer.features) == (9, 4)
    assert features.shape == (4, *patch.shape[1:])
    found = list(engine.head_layer.apply(np.concatenate([features, np.ones_like(patch)])))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_features_of_both_engines_are_the_same(model: TrainedModel) -> None:
    patch = np.random.default_rng(1).normal(size=(1, *model.configuration.patch_size)).astype(np.float32)
    openvino, torch = OpenVINOEngine(model, 1, features=True), TorchEngine(model, "cpu", 1, features=True)
    np.testing.assert_allclose(openvino.forward(patch, 0), torch.forward(patch, 0), rtol=1e-4, atol=1e-4)
    assert openvino.head_layer is not None
    assert torch.head_layer is not None
    np.testing.assert_array_equal(openvino.head_layer.matrix, torch.head_layer.matrix)


@pytest.mark.parametrize("ends_with", ["relu", "wide convolution", "computed bias"])
def test_a_network_that_ends_otherwise_is_refused(ends_with: str, model: TrainedModel) -> None:
    library = load_openvino()
    ops = library.opset13
    image = ops.parameter([1, 1, *model.configuration.patch_size], np.float32)
    dimensions = len(model.configuration.patch_size)
    width = 3 if ends_with == "wide convolution" else 1
    weights = ops.constant(np.ones((9, 1, *[width] * dimensions), np.float32))
    ones = [1] * dimensions
    found = ops.convolution(image, weights, ones, [width // 2] * dimensions, [width // 2] * dimensions, ones)
    bias = ops.constant(np.ones((1, 9, *ones), np.float32))
    found = ops.add(found, ops.relu(bias) if ends_with == "computed bias" else bias)
    network = library.Model([ops.relu(found) if ends_with == "relu" else found], [image])
    with pytest.raises(EngineError, match="can't be summed"):
        OpenVINOEngine(model, 1, networks=[network], features=True)


def test_features_where_openvino_can_not_express_the_network(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise EngineError("no such operation")

    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path))
    monkeypatch.setattr("napari_nnunet_cpu.engines.openvino.conversion.convert", fail)
    engine = choose_engine(model, Settings(device="cpu", threads=1), lambda *_: iter(()), True)
    assert (engine.name, engine.reason) == ("torch", "no such operation")
    assert engine.head_layer is not None
