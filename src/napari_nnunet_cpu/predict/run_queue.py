"""The queue of the runs of one process: one run computes at a time.

The reason is that two runs at once would each get half of the cores and need the memory of both. The viewer queues its
runs. `segment` and `Run` do not, so a script has no overhead and can't wait for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

from napari_nnunet_cpu.events import Waiting
from napari_nnunet_cpu.predict.passes.stop import Stop, never

Step = TypeVar("Step")

_ASKED_EVERY = 0.25  # seconds between calls of should_stop, because it can't wake a waiting thread


class RunQueue:
    """Gives out turns by priority, and within a priority in order of arrival.

    A turn belongs to a thread. A thread that has the turn never waits for another one but joins its own, because the
    stages of a cascade, or two runs that alternate in one thread, would otherwise block each other.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holder: Ticket | None = None
        self._line: list[Ticket] = []
        self._came = 0

    def taking(
        self, priority: int = 0, should_stop: Stop = never, part: str = ""
    ) -> Generator[Waiting, None, Ticket | None]:
        """Wait for the turn of this thread. Closing the generator leaves the queue.

        A higher `priority` goes first; background runs have one below 0. `should_stop` is asked a few times a second
        and ends the wait. Yields `Waiting`, with `part` as its name, whenever the number of runs ahead changes.
        Returns the ticket, which must be used as a context manager at once, or None if stopped.
        """
        with self._changed:
            self._came += 1
            ticket = Ticket(self, priority, self._came)
            self._line.append(ticket)
        told = 0
        try:
            while ahead := self._try(ticket):
                if should_stop():
                    return None
                if ahead != told:
                    told = ahead
                    yield Waiting(part, ahead)
                else:
                    self._sleep(ticket, ahead)
        finally:
            self._leave(ticket)
        return ticket.joined or ticket

    def in_turn(
        self, steps: Generator[Step, None, None], should_stop: Stop = never, priority: int = 0
    ) -> Generator[Step | Waiting, None, None]:
        """Compute the steps of a run in its turn, pausing between two steps for runs of higher priority.

        `steps` are those of `Segmentation.steps`; they start when the turn comes and are closed in any case.
        `should_stop` is asked while the run waits. Yields the events of the steps, and `Waiting` while it waits.
        """
        with closing(steps):
            ticket = yield from self.taking(priority, should_stop)
            if ticket is None:
                return
            with ticket, closing(steps):  # closed first, because the next run must start after the cleanup
                for step in steps:
                    yield step
                    if wanting := ticket.wanted:
                        yield Waiting("", wanting)
                    if not ticket.pause_if_wanted(should_stop):
                        return

    def _try(self, ticket: Ticket) -> int:
        """Take the turn if no run is ahead; returns the number of runs ahead."""
        with self._changed:
            ticket.thread = threading.get_ident()
            if self._holder is not None and self._holder.thread == ticket.thread:
                ticket.joined = self._holder
                self._holder.holds += 1
                return 0
            ahead = self._ahead(ticket)
            if ahead == 0:
                self._holder = ticket
                self._line.remove(ticket)
            return ahead

    def _ahead(self, ticket: Ticket) -> int:
        # Without paused tickets of the same thread, because these can't continue before this one.
        line = sum(other.place < ticket.place and other.thread != ticket.thread for other in self._line)
        return (self._holder is not None) + line

    def _sleep(self, ticket: Ticket, ahead: int) -> None:
        """Sleep until the number of runs ahead changes, or until `should_stop` is due."""
        with self._changed:
            self._changed.wait_for(lambda: self._ahead(ticket) != ahead, timeout=_ASKED_EVERY)

    def _leave(self, ticket: Ticket) -> None:
        """Leave the queue, unless the ticket already left it by taking the turn."""
        with self._changed:
            if ticket in self._line:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _wanting(self, ticket: Ticket) -> int:
        with self._changed:
            return sum(other.priority > ticket.priority and other.thread != ticket.thread for other in self._line)

    def _pause(self, ticket: Ticket, should_stop: Stop) -> bool:
        with self._changed:
            if self._holder is not ticket or not self._wanting(ticket):
                return self._holder is ticket
            self._holder = None
            self._line.append(ticket)
            self._changed.notify_all()
        try:
            while ahead := self._try(ticket):
                if should_stop():
                    return False
                self._sleep(ticket, ahead)
        finally:
            self._leave(ticket)
        return True

    def _release(self, ticket: Ticket) -> None:
        with self._changed:
            ticket.holds -= 1
            if ticket.holds == 0 and self._holder is ticket:
                self._holder = None
                self._changed.notify_all()


class Ticket:
    """A place in the queue, made by `RunQueue.taking`; as a context manager it gives the turn back.

    Attributes
    ----------
    priority : int
        Higher goes first.
    place : tuple of int
        Position in the queue; the lowest is next.
    thread : int
        Identifier of the thread that the ticket belongs to.
    holds : int
        How often the thread took the turn and has not given it back.
    joined : Ticket or None
        The ticket that the thread already had, which counts instead of this one.
    """

    def __init__(self, queue: RunQueue, priority: int, number: int) -> None:
        self._queue = queue
        self.priority = priority
        self.place = (-priority, number)
        self.thread = threading.get_ident()
        self.holds = 1
        self.joined: Ticket | None = None

    @property
    def wanted(self) -> int:
        """Number of waiting runs with a higher priority."""
        return self._queue._wanting(self)

    def pause_if_wanted(self, should_stop: Stop = never) -> bool:
        """Let waiting runs of a higher priority go first.

        `should_stop` is asked a few times a second. Returns whether to continue; if not, the run was stopped and has
        lost its turn.
        """
        return self._queue._pause(self, should_stop)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self._queue._release(self)


RUN_QUEUE = RunQueue()  # the queue of this process
