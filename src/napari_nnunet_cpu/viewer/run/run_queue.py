"""The queue of the runs of one process: one run computes at a time.

The reason is that two runs at once would each get half of the cores and need the memory of both. Runs without a viewer
are not queued, so a script has no overhead and can't wait for itself.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

from napari_nnunet_cpu.events import Waiting

Step = TypeVar("Step")
_Place = tuple[int, int]  # the negative priority and the number of arrival: the lowest place is next

_ASKED_EVERY = 0.25  # seconds between calls of should_stop, because it can't wake a waiting thread


class RunQueue:
    """Gives the turn to the waiting run with the highest priority, and among equal ones to the earliest."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._computing: _Place | None = None
        self._waiting: list[_Place] = []
        self._arrivals = itertools.count()

    def in_turn(
        self, steps: Generator[Step, None, None], should_stop: Callable[[], bool], priority: int = 0
    ) -> Generator[Step | Waiting, None, None]:
        """Compute the steps of a run when its turn comes, and pause between two steps for runs of higher priority.

        The steps are closed in any case. `should_stop` is asked a few times a second while the run waits. Yields the
        steps, and `Waiting` whenever the number of runs ahead changes.
        """
        place = -priority, next(self._arrivals)
        with closing(steps):
            if not (yield from self._turn(place, should_stop)):
                return
            try:
                for step in steps:
                    yield step
                    if self._is_outranked(place):
                        self._give_back(place)
                        if not (yield from self._turn(place, should_stop)):
                            return
            finally:
                steps.close()  # first, because the next run must start after the cleanup
                self._give_back(place)

    def _turn(self, place: _Place, should_stop: Callable[[], bool]) -> Generator[Waiting, None, bool]:
        """Wait for the turn and take it; returns False if stopped. Closing the generator leaves the queue."""
        with self._changed:
            self._waiting.append(place)
        told = 0
        try:
            while ahead := self._take(place):
                if should_stop():
                    return False
                if ahead != told:
                    told = ahead
                    yield Waiting("", ahead)
                else:
                    self._sleep(place, ahead)
        finally:
            with self._changed:
                if place in self._waiting:
                    self._waiting.remove(place)
                    self._changed.notify_all()
        return True

    def _sleep(self, place: _Place, ahead: int) -> None:
        """Sleep until the number of runs ahead changes, or until `should_stop` is due."""
        with self._changed:
            self._changed.wait_for(lambda: self._ahead(place) != ahead, timeout=_ASKED_EVERY)

    def _take(self, place: _Place) -> int:
        """Take the turn if no run is ahead; returns the number of runs ahead."""
        with self._changed:
            ahead = self._ahead(place)
            if ahead == 0:
                self._computing = place
                self._waiting.remove(place)
            return ahead

    def _ahead(self, place: _Place) -> int:
        return (self._computing is not None) + sum(other < place for other in self._waiting)

    def _is_outranked(self, place: _Place) -> bool:
        """Whether a run with a higher priority waits."""
        with self._changed:
            return any(other[0] < place[0] for other in self._waiting)

    def _give_back(self, place: _Place) -> None:
        with self._changed:
            if self._computing == place:
                self._computing = None
                self._changed.notify_all()


RUN_QUEUE = RunQueue()  # the queue of this process
