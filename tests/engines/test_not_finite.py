"""A number that is not finite, in whichever head or feature, ends a run with our error and never becomes a label."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_model import RandomModel

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, load_model
from napari_nnunet_cpu.engines import Engine
from napari_nnunet_cpu.engines.engine import check_finite
from napari_nnunet_cpu.engines.openvino.library import load_openvino
from napari_nnunet_cpu.engines.openvino.openvino_engine import OpenVINOEngine
from napari_nnunet_cpu.engines.torch_engine import TorchEngine
from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.models.network.head_layer import HeadLayer

PATCH = (4, 4, 4)
HEADS, FEATURES = 5, 3
MANY = {"background": 0} | {f"label {value}": value for value in range(1, HEADS)}
NARROW = {"n_stages": 2, "features_per_stage": [FEATURES, 4], "kernel_sizes": [[3, 3, 3]] * 2,
          "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1], "n_conv_per_stage_decoder": [1]}  # fmt: skip
CASE = Case(np.ones((1, 4, 4, 6), np.float32), (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """More heads than features, so that features are summed where the settings let them."""
    options = {"labels": MANY, "architecture": NARROW, "normalization": "NoNormalization"}
    return load_model(RandomModel(patch=PATCH, **options).write(tmp_path_factory.mktemp("many")))


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (0, 2, 3, 4), (1, 0, 3, 0), (1, 1, 1, 1), (0, 1, 0, 4), (1, 2, 0, 0)])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 2, 3, 0)], ids=["heads first", "heads last"])
def test_every_number_is_looked_at(place: tuple[int, ...], order: tuple[int, ...]) -> None:
    output = np.zeros((2, 3, 4, 5), np.float32).transpose(order).copy().transpose(np.argsort(order))
    assert check_finite(output) is output
    output[place] = np.nan
    with pytest.raises(EngineError, match="not finite"):
        check_finite(output)


class Damaged(torch.nn.Module):
    """Gives channels of which one is NaN at a voxel; as a decoder it gives away its last layer."""

    def __init__(self, channels: int, wrong: int) -> None:
        super().__init__()
        self.channels, self.wrong = channels, wrong

    @property
    def decoder(self) -> Damaged:
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = x.repeat(1, self.channels, 1, 1, 1)
        output[0, self.wrong, -1, -1, -1] = torch.nan
        return output

    def pop_last_layer(self) -> HeadLayer:
        return HeadLayer.of(np.ones((HEADS, FEATURES, 1), np.float32), np.ones(HEADS, np.float32))


def damaged(kind: str, wrong: int, features: bool, model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine with a network of which one head, or one feature, is NaN."""
    if kind == "torch":
        network = Damaged(FEATURES if features else HEADS, wrong)
        monkeypatch.setattr(TrainedModel, "network", lambda _self, _fold: network)
        return TorchEngine(model, "cpu", 1, features=features)
    ops = load_openvino().opset13

    def convolution(values: object, inputs: int, outputs: int, wrong: int | None) -> object:
        bias = np.zeros((1, outputs, 1, 1, 1), np.float32)
        if wrong is not None:
            bias[0, wrong] = np.nan
        weights = ops.constant(np.ones((outputs, inputs, 1, 1, 1), np.float32))
        return ops.add(ops.convolution(values, weights, [1] * 3, [0] * 3, [0] * 3, [1] * 3), ops.constant(bias))

    image = ops.parameter([1, 1, *PATCH], np.float32)
    found = convolution(image, 1, FEATURES, wrong if features else None)
    network = load_openvino().Model([convolution(found, FEATURES, HEADS, None if features else wrong)], [image])
    return OpenVINOEngine(model, 1, networks=[network], features=features)


@pytest.mark.parametrize("kind", ["torch", "openvino"])
@pytest.mark.parametrize(
    ("features", "wrong"), [*((False, head) for head in range(HEADS)), *((True, one) for one in range(FEATURES))]
)
def test_no_label_is_made_of_it(
    kind: str, wrong: int, features: bool, model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = damaged(kind, wrong, features, model, monkeypatch)
    run = Run(CASE, model, Settings.exact(mirror=False, threads=1, memory=10**12), engine)
    with pytest.raises(EngineError, match="not finite"):
        next(run.compute())
    assert run.tiles_done == 0
    assert not run.labels().any()
