"""Times of earlier runs are remembered, and predicted before the first one."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_engines import FakeEngine, position_dependent
from random_model import RandomModel

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, estimate, load_model
from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.engines.speed import Speed
from napari_nnunet_cpu.models.network.operations import layers
from napari_nnunet_cpu.predict.planning import first_times as first_times_module
from napari_nnunet_cpu.predict.planning.first_load import is_first_load
from napari_nnunet_cpu.predict.planning.first_times import first_times
from napari_nnunet_cpu.predict.planning.time_model import remember_times, times_of
from napari_nnunet_cpu.predict.planning.work import Times, Work
from napari_nnunet_cpu.prepare import plan_geometry

PLAIN = Settings.exact(mirror=False, threads=1)
VOXELS = 11 * 13 * 17
TIMES = Times(load=2.0, prepare=1e-3, network=0.5, export=1e-5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def case() -> Case:
    return Case(np.random.default_rng(5).normal(size=(1, 11, 13, 17)).astype(np.float32), (1.0, 1.0, 1.0))


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of which every look takes a second."""
    clock = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))


def predicted(model: TrainedModel, settings: Settings, first: bool) -> Times:
    times = first_times(model, settings, first)
    assert times is not None
    return times


def test_times_are_predicted_before_the_first_run(case: Case, model: TrainedModel) -> None:
    assert times_of(model, PLAIN) == predicted(model, PLAIN, first=True)
    assert estimate(case, model, PLAIN).seconds == times_of(model, PLAIN).of(Work(2 * VOXELS, 24, 4 * VOXELS))


def test_an_estimate_is_counted_from_remembered_times(case: Case, model: TrainedModel) -> None:
    remember_times(model, PLAIN, replace(TIMES, load=7.0))  # with the conversion
    remember_times(model, PLAIN, TIMES)
    assert times_of(model, PLAIN) == TIMES
    cost = estimate(case, model, PLAIN)
    assert cost.seconds == pytest.approx(2 + 1e-3 * 2 * VOXELS + 0.5 * 24 + 1e-5 * (3 * VOXELS + VOXELS))
    remember_times(model, replace(PLAIN, mirror=True), TIMES)
    mirrored = estimate(case, model, replace(PLAIN, mirror=True))
    assert mirrored.seconds == pytest.approx(cost.seconds + 0.5 * 24 * 7)
    probable = replace(PLAIN, probabilities=True)
    remember_times(model, probable, TIMES)
    one = estimate(case, model, probable).seconds
    assert one == pytest.approx(cost.seconds + 1e-5 * 2 * VOXELS)  # every head on the grid of the image
    assert estimate(case, [model, model], PLAIN).seconds == pytest.approx(2 * one)


def test_the_first_load_counts_apart(case: Case, model: TrainedModel) -> None:
    assert is_first_load(model, PLAIN)
    remember_times(model, PLAIN, TIMES)
    assert not is_first_load(model, PLAIN)
    later = predicted(model, PLAIN, first=False).load
    assert times_of(model, PLAIN) == replace(TIMES, load=later)
    remember_times(model, PLAIN, replace(TIMES, load=0.25))
    assert times_of(model, PLAIN) == replace(TIMES, load=0.25)
    # Other weights of the same network are converted again, which takes what it took.
    other = replace(model, checkpoint_sha256=("00" * 32,))
    assert is_first_load(other, PLAIN)
    assert times_of(other, PLAIN) == TIMES


@pytest.mark.parametrize("other", [{"threads": 2}, {"engine": "torch"}, {"device": "cpu"}, {"probabilities": True}])
def test_other_settings_take_another_time(model: TrainedModel, other: dict[str, object]) -> None:
    remember_times(model, PLAIN, TIMES)
    settings = replace(PLAIN, **other)
    assert times_of(model, settings) == predicted(model, settings, first=is_first_load(model, settings))


@pytest.mark.parametrize("other", [{"preset": "fast"}, {"mirror": True}, {"step": 0.3}, {"memory": 10**9}])
def test_settings_that_are_counted_share_it(model: TrainedModel, other: dict[str, object]) -> None:
    remember_times(model, PLAIN, TIMES)
    remember_times(model, PLAIN, TIMES)
    assert times_of(model, replace(PLAIN, **other)) == TIMES


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[1]", *(json.dumps(dict.fromkeys(("load", "prepare", "network", "export"), wrong)).encode()
                           for wrong in ("fast", None, -1, math.nan, math.inf))],
)  # fmt: skip
def test_broken_times_are_predicted(model: TrainedModel, cache: Path, content: bytes) -> None:
    remember_times(model, PLAIN, TIMES)
    (file,) = (cache / "times").iterdir()
    file.write_bytes(content)
    assert times_of(model, PLAIN) == predicted(model, PLAIN, first=False)


def test_times_on_another_device_are_not_predicted(
    case: Case, model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_nnunet_cpu.predict.planning.first_times.resolve_device", lambda _: "cuda")
    settings = replace(PLAIN, device="cuda")
    assert times_of(model, settings) is None
    assert estimate(case, model, settings).seconds is None
    assert "time not known before the first run" in estimate(case, model, settings).text
    remember_times(model, settings, TIMES)
    remember_times(model, settings, TIMES)
    assert times_of(model, settings) == TIMES


@pytest.mark.usefixtures("ticking")
def test_a_finished_run_is_remembered(case: Case, model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_nnunet_cpu.predict.run_engine.choose_engine", lambda *_: FakeEngine(position_dependent))
    monkeypatch.setattr("napari_nnunet_cpu.predict.planning.first_times._speed", lambda: Speed(1e11, 1e9))
    run = Run(case, model, PLAIN)
    list(run.compute(run.tiles[:-1]))
    assert is_first_load(model, PLAIN)
    list(run.compute())
    # With this clock a stage takes a second whenever it is worked on: every tile is computed and added, the first
    # computation finds that there are no more, and final labels are exported after each tile, and when a computation
    # begins. The first export looks at the clock itself.
    expected = Times(1, 1 / (2 * VOXELS), 49 / 24, 26 / (4 * VOXELS))
    assert times_of(model, PLAIN) == replace(expected, load=predicted(model, PLAIN, first=False).load)
    again = Run(case, model, PLAIN)
    list(again.compute())
    assert times_of(model, PLAIN).load == 1
    third = Run(case, model, PLAIN)
    assert (
        third.record()["estimate"]["seconds"]
        == third.estimate.seconds
        == times_of(model, PLAIN).of(Work(2 * VOXELS, 24, 4 * VOXELS))
    )


def test_an_engine_that_was_given_is_not_remembered(case: Case, model: TrainedModel) -> None:
    run = Run(case, model, PLAIN, FakeEngine(position_dependent))
    list(run.compute())
    assert is_first_load(model, PLAIN)


def test_times_of_their_own_work_are_the_seconds() -> None:
    work = Work(prepared=1000, passes=10, exported=300)
    times = Times.measured({"load": 1.5, "prepare": 2, "predict": 30, "export": 4}, work)
    assert times.of(work) == pytest.approx(37.5)
    assert times.of(replace(work, passes=20)) == pytest.approx(67.5)


def test_every_channel_is_prepared_and_every_head_exported(tmp_path: Path) -> None:
    labels = {"background": 0, "a": 1, "b": 2, "c": 3}
    two = load_model(RandomModel(patch=(8, 8, 8), channels=("CT", "PET"), labels=labels).write(tmp_path))
    case = Case(np.ones((2, 10, 12, 14), np.float32), (2.0, 1.0, 1.0))
    geometry = plan_geometry(case, two, Box((1, 9), (0, 12), (0, 14)))
    image, cropped, prepared = 10 * 12 * 14, 8 * 12 * 14, 16 * 12 * 14
    assert Work.counted(case, two, PLAIN, geometry, 7) == Work(2 * (image + prepared), 7, 4 * prepared + cropped)
    for option in ({"probabilities": True}, {"uncertainty": "margin"}):
        work = Work.counted(case, two, replace(PLAIN, **option), geometry, 7)
        assert work == Work(2 * (image + prepared), 7, 4 * (prepared + cropped))


@pytest.mark.parametrize("kind", ["openvino", "torch", "int8"])
def test_first_times_are_those_of_the_operations(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the folds load twice the weights, twice the threads halve the products, and a first load is apart."""
    one, two = (load_model(RandomModel(folds=folds).write(tmp_path / str(len(folds)))) for folds in ("0", "01"))
    monkeypatch.setattr(first_times_module, "likely_engine", lambda _: kind)
    monkeypatch.setattr(first_times_module, "_speed", lambda: Speed(1e9, 1e8))
    monkeypatch.setattr(first_times_module, "usable_cores", lambda: 4)
    engine = first_times_module._ENGINES[kind]
    work = list(layers(one.architecture, 1, 3, one.configuration.patch_size))
    weights, products, values = (
        sum(getattr(layer, name) for layer in work) for name in ("weights", "multiplications", "values")
    )
    for threads, share, buses in ((1, 1 / 4, 1), (2, 1 / 2, 1), (4, 1, 2)):
        settings = replace(PLAIN, threads=threads, device="cpu")
        product, copy = products / (1e9 * share), values / (1e8 * buses)
        network = engine.multiplications * product + engine.values * copy + engine.overhead
        for folds, model in ((1, one), (2, two)):
            later, first = (predicted(model, settings, first=first) for first in (False, True))
            assert later.network == first.network == pytest.approx(network)
            assert later.load == pytest.approx(engine.load + engine.load_per_weight * weights * folds)
            assert first.load == pytest.approx(
                engine.first_load
                + engine.first_load_per_weight * weights * folds
                + engine.first_passes * (product + copy)
            )
