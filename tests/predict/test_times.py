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

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, estimate
from napari_nnunet_cpu.engines.speed import Speed
from napari_nnunet_cpu.predict.planning.first_load import is_first_load
from napari_nnunet_cpu.predict.planning.first_times import first_times
from napari_nnunet_cpu.predict.planning.time_model import remember_times, times_of
from napari_nnunet_cpu.predict.planning.work import Times, Work

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
