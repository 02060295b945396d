"""What is remembered of a run that was resumed, and the time that is said to be left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_engines import FakeEngine, position_dependent

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel
from napari_nnunet_cpu.events import TileDone
from napari_nnunet_cpu.predict.planning.time_model import Times, remember_times, times_of
from napari_nnunet_cpu.predict.progress import Progress

PLAIN = Settings.exact(mirror=False, threads=1, memory=10**12)
TIMES = Times(load=0.0, prepare=0.0, network=0.5, export=0.0)


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the test, in which nothing takes any time but the engine; nothing is remembered yet."""
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "cache"))
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    return clock


@pytest.fixture
def begin(clock: Clock, model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Begins a run whose passes take so many seconds, or resumes it."""
    case = Case(np.random.default_rng(5).normal(size=(1, 8, 11, 13)).astype(np.float32), (1.0, 1.0, 1.0))

    def begin(seconds: float) -> Run:
        def compute(patch: np.ndarray, fold: int) -> np.ndarray:
            clock.now += seconds
            return position_dependent(patch, fold)

        monkeypatch.setattr("napari_nnunet_cpu.predict.run_engine.choose_engine", lambda *_: FakeEngine(compute))
        return Run(case, model, PLAIN, folder=tmp_path / "runs")

    return begin


def interrupted(run: Run, tiles: int) -> None:
    list(run.compute(run.tiles[:tiles]))
    assert run.saving is not None
    run.saving.file.close()


def test_time_left_is_that_of_the_passes_so_far(begin: Callable[..., Run]) -> None:
    run = begin(seconds=3.0)
    total = len(run.tiles)
    events = list(run.compute())
    assert [event.seconds_left for event in events] == [3.0 * (total - done) for done in range(1, total + 1)]


def test_a_resumed_run_begins_with_the_estimate_and_goes_on_with_its_own_speed(
    begin: Callable[..., Run], model: TrainedModel
) -> None:
    remember_times(model, PLAIN, TIMES)
    remember_times(model, PLAIN, TIMES)
    first = begin(seconds=3.0)
    total = len(first.tiles)
    assert first.estimate.seconds == 0.5 * total
    interrupted(first, 4)
    second = begin(seconds=7.0)
    events = list(second.compute())
    # Four tiles are there, and final labels of them are told before the next one is computed.
    assert events[0].done == 4
    assert events[0].final
    assert events[0].seconds_left == pytest.approx(0.5 * (total - 4))
    assert [event.seconds_left for event in events[1:]] == [7.0 * (total - done) for done in range(5, total + 1)]


def test_a_resumed_run_remembers_the_passes_that_it_computed(begin: Callable[..., Run], model: TrainedModel) -> None:
    interrupted(begin(seconds=3.0), 4)
    second = begin(seconds=7.0)
    list(second.compute())
    assert second.record()["tiles_resumed"] == 4
    times = times_of(model, PLAIN)
    assert times is not None
    assert times.network == pytest.approx(7.0)


def test_tiles_that_were_computed_before_do_not_make_it_faster(clock: Clock, model: TrainedModel) -> None:
    case = Case(np.ones((1, 8, 8, 24), np.float32), (1.0, 1.0, 1.0))
    tiles = Run(case, model, PLAIN, FakeEngine(position_dependent)).tiles
    done = {tiles[0].index, tiles[1].index}
    progress = Progress(done, tiles, tiles[2:])
    assert progress.event((), 2.0) == TileDone(2, 5, 6.0)
    clock.now += 10
    done.add(tiles[2].index)
    assert progress.event(()) == TileDone(3, 5, 20.0)
    assert not progress.finished
