"""Runs in threads take queue: in order, by priority, and whatever happens to the one before."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Generator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_nnunet_cpu.events import Waiting
from napari_nnunet_cpu.viewer.run import run_queue
from napari_nnunet_cpu.viewer.run.run_queue import RunQueue

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits is woken: with this, looking now and then would be too late."""
    monkeypatch.setattr(run_queue, "_ASKED_EVERY", 10 * PATIENCE)


@pytest.fixture
def _asked_often(_woken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_queue, "_ASKED_EVERY", 0.01)


class Runner:
    """Goes in a thread through two steps in turn; tells what happened, and waits at each step for a word.

    `heard` is set with every event, so that a test can wait for "waiting".
    """

    def __init__(self, queue: RunQueue, name: str, log: list[str], priority: int = 0) -> None:
        self.name, self.log, self.queue, self.priority = name, log, queue, priority
        self.stop = threading.Event()
        self.go = threading.Semaphore(0)
        self.stepped = threading.Semaphore(0)
        self.heard = threading.Semaphore(0)
        self.waits: list[int] = []
        self.error: Exception | None = None
        self.found: str | None = None
        self.thread = threading.Thread(target=self._drive, daemon=True)

    def steps(self) -> Generator[str, None, None]:
        try:
            for step in ("1", "2"):
                self.log.append(self.name + step)
                self.stepped.release()
                assert self.go.acquire(timeout=PATIENCE)
                if self.error is not None:
                    raise self.error
                yield self.name + step
            self.found = self.name
        finally:
            self.log.append(self.name + " closed")

    def _drive(self) -> None:
        try:
            self._drained(self.queue.in_turn(self.steps(), self.stop.is_set, self.priority))
        except ValueError:
            self.log.append(self.name + " failed")

    def _drained(self, events: Generator[str | Waiting, None, None]) -> None:
        for event in events:
            if isinstance(event, Waiting):
                self.waits.append(event.ahead)
                self.heard.release()

    def start(self) -> Runner:
        self.thread.start()
        return self

    def until_stepping(self) -> Runner:
        assert self.stepped.acquire(timeout=PATIENCE)
        return self

    def until_waiting(self) -> Runner:
        assert self.heard.acquire(timeout=PATIENCE)
        return self

    def end(self) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def queue() -> RunQueue:
    return RunQueue()


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def runner(queue, log):
    made: list[Runner] = []

    def make(name: str, priority: int = 0) -> Runner:
        made.append(Runner(queue, name, log, priority))
        return made[-1]

    yield make
    for one in made:
        one.stop.set()
        one.go.release(9)
        one.end()


def one_after_the_other(names: str) -> list[str]:
    return [f"{name}{what}" for name in names for what in ("1", "2", " closed")]


def test_the_first_that_came_is_next(runner: Callable[..., Runner], log) -> None:
    first = runner("a").start().until_stepping()
    others = [runner(name).start().until_waiting() for name in "bcd"]
    assert [other.waits for other in others] == [[1], [2], [3]]
    assert log == ["a1"]
    for one in (first, *others):
        one.go.release(2)
    for one in (first, *others):
        one.end()
        assert one.found == one.name
    assert log == one_after_the_other("abcd")


def test_those_who_wait_hear_that_they_move_up(runner: Callable[..., Runner]) -> None:
    first = runner("a").start().until_stepping()
    second, third = (runner(name).start().until_waiting() for name in "bc")
    first.go.release(2)
    third.until_waiting()
    second.until_stepping()
    assert third.waits == [2, 1]


def test_the_higher_priority_is_next(runner: Callable[..., Runner], log) -> None:
    # Of its own priority nobody lets another in, and so "a", of the highest here, goes through.
    first = runner("a", 1).start().until_stepping()
    late = [runner(name, priority).start().until_waiting() for name, priority in (("b", -1), ("c", 0), ("d", 1))]
    assert late[2].waits == [1]
    for one in (first, *late):
        one.go.release(2)
    for one in (first, *late):
        one.end()
    assert log == one_after_the_other("adcb")


def test_a_run_in_the_background_lets_others_in_between_two_steps(runner: Callable[..., Runner], log) -> None:
    background = runner("a", -1).start().until_stepping()
    later = runner("b", -1).start().until_waiting()
    front = runner("c").start().until_waiting()
    background.go.release()
    front.until_stepping()
    background.until_waiting()
    assert background.waits == [1]
    assert log == ["a1", "c1"]
    for one in (background, later, front):
        one.go.release(2)
        one.stepped.release()
    for one in (background, later, front):
        one.end()
    # It goes on before what came later, though that waited all the time.
    assert log == ["a1", "c1", "c2", "c closed", "a2", "a closed", "b1", "b2", "b closed"]
    assert background.found == "a"


@pytest.mark.usefixtures("_asked_often")
def test_stopped_while_it_waits(runner: Callable[..., Runner], log) -> None:
    first = runner("a").start().until_stepping()
    second = runner("b").start().until_waiting()
    third = runner("c").start().until_waiting()
    second.stop.set()
    second.end()
    assert second.found is None
    third.until_waiting()
    assert third.waits == [2, 1]
    first.go.release(2)
    third.until_stepping()
    assert "b1" not in log


@pytest.mark.usefixtures("_asked_often")
def test_stopped_while_it_pauses(runner: Callable[..., Runner], log) -> None:
    background = runner("a", -1).start().until_stepping()
    front = runner("b").start().until_waiting()
    background.go.release()
    front.until_stepping()
    background.stop.set()
    background.end()
    assert background.found is None
    assert log == ["a1", "b1", "a closed"]
    front.go.release(2)
    front.end()
    runner("c").start().until_stepping()


def test_an_error_frees_the_turn(runner: Callable[..., Runner], log) -> None:
    first = runner("a").start().until_stepping()
    second = runner("b").start().until_waiting()
    first.error = ValueError("out of luck")
    first.go.release()
    second.until_stepping()
    first.end()
    assert log.index("a closed") < log.index("b1")
    assert "a failed" in log


def endless() -> Generator[int, None, None]:
    yield from iter(int, 1)


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_a_run_that_nobody_goes_on_with_frees_the_turn(queue, runner: Callable[..., Runner], how: str) -> None:
    held = queue.in_turn(endless(), lambda: False)
    assert next(held) == 0
    waits = runner("a").start().until_waiting()
    if how == "closed":
        held.close()
    else:
        del held
        gc.collect()
    waits.until_stepping()


def test_a_closed_wait_leaves_the_line(queue, runner: Callable[..., Runner]) -> None:
    first = runner("a").start().until_stepping()
    waiting = queue.in_turn(endless(), lambda: False)
    assert next(waiting) == Waiting("", 1)
    third = runner("b").start().until_waiting()
    assert third.waits == [2]
    waiting.close()
    third.until_waiting()
    assert third.waits == [2, 1]
    first.go.release(2)
    third.until_stepping()


def test_steps_that_never_got_their_turn_are_closed(queue, runner: Callable[..., Runner]) -> None:
    runner("a").start().until_stepping()
    steps = endless()
    waiting = queue.in_turn(steps, should_stop=lambda: True)
    with pytest.raises(StopIteration):
        next(waiting)
    assert steps.gi_frame is None


@settings(max_examples=30)
@given(st.lists(st.integers(-2, 2), max_size=6))
def test_any_line_is_served_by_priority_then_arrival(priorities: list[int]) -> None:
    queue, log = RunQueue(), []
    first = Runner(queue, "first", [], priority=3).start().until_stepping()
    rest = []
    for number, priority in enumerate(priorities):
        rest.append(Runner(queue, f"{number}", log, priority).start().until_waiting())
    for one in (first, *rest):
        one.go.release(2)
    for one in (first, *rest):
        one.end()
    order = sorted(range(len(priorities)), key=lambda number: -priorities[number])
    assert [entry for entry in log if entry.endswith("closed")] == [f"{number} closed" for number in order]
