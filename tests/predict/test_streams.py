"""Several passes at a time: nothing depends on which is ready first, nothing is lost when one fails or is stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from fake_engines import FakeEngine, position_dependent
from random_model import RandomModel
from small_models import load_models

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, load_model
from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.predict import Focus, RunControl
from napari_nnunet_cpu.predict.passes.streams import PauseGate, in_streams

pytestmark = pytest.mark.slow

PLAIN = Settings.exact(mirror=False, threads=1)
PATIENCE = 20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    return load_models(["3d", "2d"], tmp_path_factory)


class Together(FakeEngine):
    """So many passes meet before any of them goes on; every thread writes over what it gave before."""

    def __init__(self, streams: int, folds: int = 1) -> None:
        super().__init__(position_dependent, folds)
        self.streams = streams
        self.meeting = threading.Barrier(streams)
        self.own = threading.local()
        self.fails_at: int | None = None
        self.passes = count(1)

    def forward(self, patch: np.ndarray, fold: int) -> np.ndarray:
        number = next(self.passes)
        try:
            self.meeting.wait(PATIENCE if number <= self.streams else 0.01)  # those that are left may be too few
        except threading.BrokenBarrierError:
            assert number > self.streams
        if number == self.fails_at:
            raise ValueError("this one fails")
        output = super().forward(patch, fold)
        kept = self.own.__dict__.setdefault("output", np.empty_like(output))
        kept[...] = output
        return kept


def labels_of(model: TrainedModel) -> np.ndarray:
    run = Run(case(), model, PLAIN, FakeEngine(position_dependent))
    list(run.compute())
    return run.labels()


def case() -> Case:
    return Case(np.random.default_rng(1).normal(size=(1, 22, 19, 25)).astype(np.float32), (1.2, 1.0, 1.0))


@pytest.mark.parametrize("streams", [2, 3, 4])
@pytest.mark.parametrize("any_order", [True, False])
@pytest.mark.parametrize("name", ["3d", "2d"])
def test_sums_are_those_of_one_pass_at_a_time(
    name: str, any_order: bool, streams: int, models: dict[str, TrainedModel]
) -> None:
    one, several = (
        Run(case(), models[name], PLAIN, engine, any_order=any_order)
        for engine in (FakeEngine(position_dependent), Together(streams))
    )
    expected, found = list(one.compute()), list(several.compute())
    assert [(event.done, event.final) for event in found] == [(event.done, event.final) for event in expected]
    assert np.array_equal(several.labels(), one.labels())
    if any_order:
        whole = Box.whole(one.grid.padded)
        assert np.array_equal(several._output.sums.copy_of(whole), one._output.sums.copy_of(whole))


def test_mirrored_passes_of_folds_and_their_disagreement(models: dict[str, TrainedModel]) -> None:
    settings = Settings.exact(uncertainty="disagreement")
    one, several = (
        Run(case(), models["3d"], settings, engine)
        for engine in (FakeEngine(position_dependent, folds=2), Together(3, folds=2))
    )
    assert len(list(several.compute())) == len(list(one.compute()))
    assert np.array_equal(several.labels(), one.labels())
    assert np.array_equal(several.uncertainty(), one.uncertainty())


def test_each_tile_once_wherever_the_focus_goes(models: dict[str, TrainedModel]) -> None:
    run, one = Run(case(), models["3d"], PLAIN, Together(2)), Run(case(), models["3d"], PLAIN, Together(1))
    list(one.compute())
    control = RunControl()
    for event in run.compute(control=control):
        control.focus = Focus((event.done % 22, 9, 12), 0)
    assert np.array_equal(run.labels(), one.labels())
    engine = run.engine
    assert isinstance(engine, Together)
    patches = {patch.tobytes() for _, patch in engine.calls}
    assert len(patches) == len(engine.calls) == len(run.tiles)


def test_stopped_and_gone_on(models: dict[str, TrainedModel]) -> None:
    run, control = Run(case(), models["3d"], PLAIN, Together(3)), RunControl()
    for event in run.compute(control=control):
        if event.done == 5:
            control.stop()
    begun = len(run.engine.calls)  # type: ignore[attr-defined]
    assert 5 <= run.tiles_done <= begun <= 5 + 2  # those that had begun are not lost
    assert threading.active_count() == _without_lanes()
    control.restart()
    list(run.compute(control=control))
    assert run.complete
    assert np.array_equal(run.labels(), labels_of(models["3d"]))


def test_two_iterators_share_the_tiles(models: dict[str, TrainedModel]) -> None:
    run = Run(case(), models["3d"], PLAIN, Together(2))
    one, other = run.compute(), run.compute(run.tiles[::-1])
    events = [next(one), *other, *one]
    assert [event.done for event in events] == list(range(1, len(run.tiles) + 1))
    np.testing.assert_array_equal(run.labels(), labels_of(models["3d"]))
    plain = Run(case(), models["3d"], PLAIN, FakeEngine(position_dependent))
    list(plain.compute())
    whole = Box.whole(run.grid.padded)
    # Added in another order.
    np.testing.assert_allclose(run._output.sums.copy_of(whole), plain._output.sums.copy_of(whole), rtol=1e-4, atol=1e-3)


class Held(FakeEngine):
    """Two passes at a time; those of the second stream are counted, and wait until they are let go."""

    streams = 2

    def __init__(self) -> None:
        super().__init__(position_dependent)
        self.begun = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.first: np.ndarray | None = None  # the patch of the first stream
        self._free: int | None = None

    def forward(self, patch: np.ndarray, fold: int) -> np.ndarray:
        if np.array_equal(patch, self.first):
            self._free = threading.get_ident()
        if threading.get_ident() != self._free:
            self.begun.release()
            assert self.let_go.wait(20)
        return super().forward(patch, fold)


def test_nothing_is_computed_while_nobody_asks_for_it(tmp_path: Path) -> None:
    mirrored = RandomModel(patch=(8, 8, 8), normalization="NoNormalization", mirror_axes=(0, 1, 2))
    engine = Held()
    run = Run(case(), load_model(mirrored.write(tmp_path)), Settings.exact(), engine)
    engine.first = run._parts.patches.of(run.tiles[0])
    steps = run.compute()
    assert next(steps).done == 1
    assert engine.begun.acquire(timeout=20)  # the first of eight passes of the second tile
    engine.let_go.set()
    assert not engine.begun.acquire(timeout=0.3)
    assert next(steps).done == 2
    for _ in range(7):
        assert engine.begun.acquire(timeout=20)
    steps.close()
    assert run.tiles_done == 2


def test_the_gate() -> None:
    stop = threading.Event()
    gate = PauseGate(stop.is_set)
    assert not gate.stops()
    with gate.shut():
        pass
    assert not gate.stops()
    stop.set()
    assert gate.stops()
    stop.clear()
    assert not gate.stops()
    with gate:
        assert not gate.stops()
    assert gate.stops()
    other = PauseGate(stop.is_set)
    with pytest.raises(KeyboardInterrupt), other, other.shut():
        raise KeyboardInterrupt
    assert other.stops()


def test_lanes_wait_at_the_gate() -> None:
    gate, stopped = PauseGate(threading.Event().is_set), []
    thread = threading.Thread(target=lambda: stopped.append(gate.stops()))
    with gate.shut():
        thread.start()
        thread.join(0.2)
        assert stopped == []
    thread.join(PATIENCE)
    assert stopped == [False]


def test_left_half_way(models: dict[str, TrainedModel]) -> None:
    run = Run(case(), models["3d"], PLAIN, Together(2))
    steps = run.compute()
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert threading.active_count() == _without_lanes()
    assert run.tiles_done == 1


@pytest.mark.parametrize("number", [1, 2, 6])
def test_a_pass_that_fails(number: int, models: dict[str, TrainedModel]) -> None:
    engine = Together(2)
    engine.fails_at = number
    run = Run(case(), models["3d"], PLAIN, engine)
    with pytest.raises(ValueError, match="this one fails"):
        list(run.compute())
    assert number - 2 <= run.tiles_done < number
    assert threading.active_count() == _without_lanes()
    list(run.compute())
    assert run.complete


def test_saved_with_one_and_taken_up_with_two(models: dict[str, TrainedModel], tmp_path: Path) -> None:
    first = Run(case(), models["3d"], PLAIN, Together(1), folder=tmp_path)
    steps = first.compute()
    for _ in range(len(first.tiles) // 2):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert first.saving is not None
    first.saving.file.close()
    second = Run(case(), models["3d"], PLAIN, Together(2), folder=tmp_path)
    assert 0 < second.tiles_done == first.tiles_done
    list(second.compute())
    assert np.array_equal(second.labels(), labels_of(models["3d"]))


def test_lanes_take_the_next_item_when_one_is_free() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(6):
            taken.append(item)
            yield item

    streams = in_streams(items(), lambda item: item**2, 2)
    assert taken == []
    found = []
    for item, square in streams:
        assert len(taken) == min(item + 2, 6)
        found.append((item, square))
    assert found == [(item, item**2) for item in range(6)]
    assert list(in_streams([], str, 3)) == []
    assert list(in_streams([7], str, 3)) == [(7, "7")]


def _without_lanes() -> int:
    return sum(not thread.name.startswith("stream") for thread in threading.enumerate())
