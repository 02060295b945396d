"""Sums of features give what sums of logits give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engines import FakeEngine
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, load_model
from napari_nnunet_cpu.engines import choose_engine
from napari_nnunet_cpu.models.network.head_layer import HeadLayer
from napari_nnunet_cpu.predict.passes.accumulated_channels import accumulated_channels, sums_features
from napari_nnunet_cpu.predict.planning.memory import MemoryPlan, plan_memory
from napari_nnunet_cpu.predict.tiles.finality import window_depth

pytestmark = pytest.mark.slow

MANY = {"background": 0} | {f"label {value}": value for value in range(1, 6)}
REGIONS = {"labels": {"background": 0} | {f"r{n}": [*range(n, 6)] for n in range(1, 6)}}
MODELS: dict[str, dict[str, Any]] = {
    "3d": {"labels": MANY},
    "2d": {"labels": MANY, "patch": (8, 8), "spacing": (1.0, 1.0)},
    "regions": {**REGIONS, "regions_class_order": [1, 2, 3, 4, 5]},
    "splines": {"labels": MANY, "resampling_options": {"probabilities": {"order": 3}}},
}
PLAIN = Settings.exact(mirror=False, threads=1)
CASE = Case(np.random.default_rng(0).normal(size=(1, 22, 13, 12)).astype(np.float32), (1.3, 0.9, 1.0))


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    options = {"patch": (8, 8, 8), "normalization": "NoNormalization"} | MODELS[request.param]
    return load_model(RandomModel(**options).write(tmp_path_factory.mktemp("model")))


def features_of(patch: np.ndarray, _fold: int = 0) -> np.ndarray:
    """Two of them, which depend on the place in the patch."""
    place = np.linspace(-1, 1, patch[0].size).reshape(patch[0].shape)
    return np.stack([patch[0] * np.cos(5 * place), np.sin(3 * place) - patch[0]])


def engines(model: TrainedModel) -> tuple[FakeEngine, FakeEngine]:
    """One that gives logits, and one that gives the features that these are made of."""
    layer = HeadLayer(np.random.default_rng(1).normal(size=(model.labels.heads, 3)).astype(np.float32))

    def logits(patch: np.ndarray, fold: int) -> np.ndarray:
        features = np.concatenate([features_of(patch), np.ones_like(patch)]).astype(np.float32)
        return np.stack(list(layer.apply(features)))

    of_features = FakeEngine(features_of)
    of_features.head_layer = layer
    return FakeEngine(logits), of_features


def run_as(kind: str, model: TrainedModel, settings: Settings, engine: FakeEngine, folder: Path | None = None) -> Run:
    def planned(*arguments: Any) -> MemoryPlan:
        plan = plan_memory(*arguments)
        _, _, _, geometry, grid, export, *_ = arguments
        depth = window_depth(grid, export, geometry.cropped_shape[0], grid.starts[0]) if kind == "rows" else plan.depth
        return replace(plan, kind=kind, depth=depth, probabilities_on_disk=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_nnunet_cpu.predict.planning.plan.plan_memory", planned)
        return Run(CASE, model, settings, engine, folder=folder, any_order=kind != "rows")


@pytest.mark.parametrize("uncertainty", [None, "margin", "entropy"])
@pytest.mark.parametrize("kind", ["dense", "rows", "disk"])
def test_the_result_is_the_same(kind: str, uncertainty: str | None, model: TrainedModel) -> None:
    settings = replace(PLAIN, uncertainty=uncertainty)
    summed, expected = (run_as(kind, model, settings, engine) for engine in reversed(engines(model)))
    for run in (summed, expected):
        list(run.compute())
    assert summed.record()["accumulated_channels"] == 2
    assert expected.record()["accumulated_channels"] == model.labels.heads
    assert len(np.unique(expected.labels())) > 1
    assert np.array_equal(summed.labels(), expected.labels())
    if uncertainty is not None:
        np.testing.assert_allclose(summed.uncertainty(), expected.uncertainty(), atol=1e-4)


def test_probabilities_are_the_same(model: TrainedModel) -> None:
    settings = replace(PLAIN, probabilities=True)
    summed, expected = (Run(CASE, model, settings, engine) for engine in reversed(engines(model)))
    for run in (summed, expected):
        list(run.compute())
    np.testing.assert_allclose(summed.probabilities().array, expected.probabilities().array, atol=1e-4)


def test_a_saved_run_goes_on(model: TrainedModel, tmp_path: Path) -> None:
    _, engine = engines(model)
    straight = run_as("dense", model, PLAIN, engine)
    list(straight.compute())
    for stop_after in (3, 6):
        run = run_as("dense", model, PLAIN, engine, tmp_path)
        for event in run.compute():
            if event.done == stop_after:
                break
        assert run.saving is not None
        run.saving.save()
        run.saving.file.close()
    run = run_as("dense", model, PLAIN, engine, tmp_path)
    assert run.tiles_done == 6
    list(run.compute())
    assert np.array_equal(run.labels(), straight.labels())


def test_features_are_summed_where_they_are_fewer(tmp_path: Path) -> None:
    """The network has 4 features before its last layer."""
    many = load_model(RandomModel(labels=MANY).write(tmp_path / "many"))
    four = load_model(RandomModel(labels=dict(list(MANY.items())[:4])).write(tmp_path / "four"))
    folds = load_model(RandomModel(labels=MANY, folds=("0", "1")).write(tmp_path / "folds"))
    assert [accumulated_channels(model, PLAIN) for model in (many, four, folds)] == [4, 4, 6]
    assert [sums_features(model, PLAIN) for model in (many, four, folds)] == [True, False, False]
    mirrored = replace(PLAIN, mirror=True, uncertainty="disagreement")
    assert not sums_features(many, mirrored)
    assert sums_features(many, replace(mirrored, uncertainty="entropy"))


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_run_asks_its_engine_for_features(engine: str, tmp_path: Path) -> None:
    model = load_model(RandomModel(labels=MANY, mirror_axes=(0, 1, 2)).write(tmp_path))
    settings = Settings.exact(engine=engine, device="cpu", threads=1, mirror=True)
    case = Case(smooth_image((20, 27, 25), seed=4), (1.0, 1.0, 1.0))
    summed = Run(case, model, settings)
    expected = Run(case, model, settings, choose_engine(model, settings))
    for run in (summed, expected):
        list(run.compute())
    assert (summed.record()["accumulated_channels"], expected.record()["accumulated_channels"]) == (4, 6)
    assert summed.engine.head_layer is not None
    assert len(np.unique(expected.labels())) == 6
    assert (summed.labels() == expected.labels()).mean() > 0.9999
