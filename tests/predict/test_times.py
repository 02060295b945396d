"""What runs took is remembered, and tells what the next will take."""

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
from napari_nnunet_cpu.predict.planning.time_model import Times, Work, keep_times, read_times

PLAIN = Settings.exact(mirror=False, threads=1)
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


def test_nothing_is_known_before_the_first_run(case: Case, model: TrainedModel) -> None:
    assert read_times(model, PLAIN) is None
    assert estimate(case, model, PLAIN).seconds is None
    assert "time not known before the first run" in estimate(case, model, PLAIN).text


def test_an_estimate_is_counted_from_what_is_remembered(case: Case, model: TrainedModel) -> None:
    keep_times(model, PLAIN, TIMES)
    assert read_times(model, PLAIN) == TIMES
    voxels = 11 * 13 * 17
    cost = estimate(case, model, PLAIN)
    assert cost.seconds == pytest.approx(2 + 1e-3 * 2 * voxels + 0.5 * 24 + 1e-5 * (3 * voxels + voxels))
    keep_times(model, replace(PLAIN, mirror=True), TIMES)
    mirrored = estimate(case, model, replace(PLAIN, mirror=True))
    assert mirrored.seconds == pytest.approx(cost.seconds + 0.5 * 24 * 7)
    both = estimate(case, [model, model], PLAIN)
    assert both.seconds is None  # probabilities take another time
    keep_times(model, replace(PLAIN, probabilities=True), TIMES)
    assert estimate(case, [model, model], PLAIN).seconds > 2 * cost.seconds


@pytest.mark.parametrize("other", [{"threads": 2}, {"engine": "torch"}, {"device": "cpu"}, {"probabilities": True}])
def test_other_settings_take_another_time(model: TrainedModel, other: dict[str, object]) -> None:
    keep_times(model, PLAIN, TIMES)
    assert read_times(model, replace(PLAIN, **other)) is None


@pytest.mark.parametrize("other", [{"preset": "fast"}, {"mirror": True}, {"step": 0.3}, {"memory": 10**9}])
def test_settings_that_are_counted_share_it(model: TrainedModel, other: dict[str, object]) -> None:
    keep_times(model, PLAIN, TIMES)
    assert read_times(model, replace(PLAIN, **other)) == TIMES


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[1]", b'{"load": 1}', b'{"load": 1, "prepare": 1, "network": 1, "export": 1, "more": 1}']
    + [json.dumps({"load": 1, "prepare": 1, "network": wrong, "export": 1}).encode() for wrong in
       ("fast", None, -1, math.nan, math.inf)],
)  # fmt: skip
def test_a_broken_file_is_none(case: Case, model: TrainedModel, cache: Path, content: bytes) -> None:
    keep_times(model, PLAIN, TIMES)
    (file,) = cache.rglob("*.json")
    file.write_bytes(content)
    assert read_times(model, PLAIN) is None
    assert estimate(case, model, PLAIN).seconds is None


@pytest.mark.usefixtures("ticking")
def test_a_finished_run_is_remembered(case: Case, model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_nnunet_cpu.predict.run_engine.choose_engine", lambda *_: FakeEngine(position_dependent))
    run = Run(case, model, PLAIN)
    assert run.estimate.seconds is None
    list(run.compute(run.tiles[:-1]))
    assert read_times(model, PLAIN) is None
    list(run.compute())
    voxels = 11 * 13 * 17
    # With this clock a stage takes a second whenever it is worked on: every tile is computed and added, the first
    # computation finds that there are no more, and what is final is made after each tile, and when a computation
    # begins. The first export looks at the clock itself.
    assert read_times(model, PLAIN) == Times(1, 1 / (2 * voxels), 49 / 24, 26 / (4 * voxels))
    again = Run(case, model, PLAIN)
    assert again.estimate.seconds == pytest.approx(1 + 1 + 49 + 26)
    assert again.record()["estimate"]["seconds"] == again.estimate.seconds


def test_an_engine_that_was_given_is_not_remembered(case: Case, model: TrainedModel) -> None:
    run = Run(case, model, PLAIN, FakeEngine(position_dependent))
    list(run.compute())
    assert read_times(model, PLAIN) is None


def test_times_of_their_own_work_are_the_seconds() -> None:
    work = Work(prepared=1000, passes=10, exported=300)
    times = Times.measured({"load": 1.5, "prepare": 2, "predict": 30, "export": 4}, work)
    assert times.of(work) == pytest.approx(37.5)
    assert times.of(replace(work, passes=20)) == pytest.approx(67.5)
