"""Whose turn it is: of the runs of one process, one computes at a time.

Two at once would each get half of the cores and need the memory of both. Whoever drives runs in threads takes
turns, as the viewer does; `segment` and `Run` take none, so that a script pays nothing and can't wait for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

from napari_nnunet_cpu.events import Waiting
from napari_nnunet_cpu.predict.passes.stop import Stop, never

Step = TypeVar("Step")

_ASKED_EVERY = 0.25  # seconds between two looks at should_stop, which can't wake a thread that waits


class RunQueue:
    """Gives turns: the highest priority first, and within one those who came first.

    A turn is its thread's. Taking one in the thread that has it joins it, and never waits: a cascade's stages are
    one turn, and so are two runs that one thread goes through by turns.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holder: Ticket | None = None
        self._line: list[Ticket] = []
        self._came = 0

    def taking(
        self, priority: int = 0, should_stop: Stop = never, part: str = ""
    ) -> Generator[Waiting, None, Ticket | None]:
        """Wait until it is this thread's turn. Closing the generator leaves the line.

        Parameters
        ----------
        priority : int, optional
            Higher goes first; below 0 is for what nobody waits for.
        should_stop : callable, optional
            Asked a few times a second; once it says yes nobody waits any longer.
        part : str, optional
            What the events say is waiting.

        Yields
        ------
        Waiting
            When it has to wait, and whenever another number of runs is before it.

        Returns
        -------
        Ticket or None
            Held, to be used as a context manager at once; None when it was stopped.
        """
        with self._changed:
            self._came += 1
            turn = Ticket(self, priority, self._came)
            self._line.append(turn)
        told = 0
        try:
            while ahead := self._try(turn):
                if should_stop():
                    return None
                if ahead != told:
                    told = ahead
                    yield Waiting(part, ahead)
                else:
                    self._sleep(turn, ahead)
        finally:
            self._leave(turn)
        return turn.joined or turn

    def in_turn(
        self, steps: Generator[Step, None, None], should_stop: Stop = never, priority: int = 0
    ) -> Generator[Step | Waiting, None, None]:
        """Go through the steps of a run when its turn comes, and let runs of higher priority in between two steps.

        Parameters
        ----------
        steps : generator
            The steps, as `Segmentation.steps` gives them; begun with the turn, closed in any case.
        should_stop : callable, optional
            Asked while the run waits.
        priority : int, optional
            As in `taking`.

        Yields
        ------
        object or Waiting
            The steps, and how many runs are ahead while the run waits.
        """
        with closing(steps):
            turn = yield from self.taking(priority, should_stop)
            if turn is None:
                return
            with turn, closing(steps):  # so that the next run begins after this one has cleaned up
                for step in steps:
                    yield step
                    if wanting := turn.wanted:
                        yield Waiting("", wanting)
                    if not turn.pause_if_wanted(should_stop):
                        return

    def _try(self, turn: Ticket) -> int:
        """Take the turn if nobody is before it; how many are."""
        with self._changed:
            turn.thread = threading.get_ident()
            if self._holder is not None and self._holder.thread == turn.thread:
                turn.joined = self._holder
                self._holder.holds += 1
                return 0
            ahead = self._ahead(turn)
            if ahead == 0:
                self._holder = turn
                self._line.remove(turn)
            return ahead

    def _ahead(self, turn: Ticket) -> int:
        # One that its own thread has left in the line can't go on before this one does.
        line = sum(other.place < turn.place and other.thread != turn.thread for other in self._line)
        return (self._holder is not None) + line

    def _sleep(self, turn: Ticket, ahead: int) -> None:
        """Until another number of runs is before the turn, or it is time to ask whether to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._ahead(turn) != ahead, timeout=_ASKED_EVERY)

    def _leave(self, turn: Ticket) -> None:
        """Out of the line, unless it is out because it is its turn."""
        with self._changed:
            if turn in self._line:
                self._line.remove(turn)
                self._changed.notify_all()

    def _wanting(self, turn: Ticket) -> int:
        with self._changed:
            return sum(other.priority > turn.priority and other.thread != turn.thread for other in self._line)

    def _pause(self, turn: Ticket, should_stop: Stop) -> bool:
        with self._changed:
            if self._holder is not turn or not self._wanting(turn):
                return self._holder is turn
            self._holder = None
            self._line.append(turn)
            self._changed.notify_all()
        try:
            while ahead := self._try(turn):
                if should_stop():
                    return False
                self._sleep(turn, ahead)
        finally:
            self._leave(turn)
        return True

    def _release(self, turn: Ticket) -> None:
        with self._changed:
            turn.holds -= 1
            if turn.holds == 0 and self._holder is turn:
                self._holder = None
                self._changed.notify_all()


class Ticket:
    """A turn, from the line on; once it is held, a context manager that gives it back.

    `RunQueue.taking` makes it.

    Attributes
    ----------
    priority : int
        Higher goes first.
    place : tuple of int
        Where it is in the line: the lowest is next.
    thread : int
        Whose it is.
    holds : int
        How often that thread took it, and has to give it back.
    joined : Ticket or None
        The turn that the thread had already, which is held in place of this one.
    """

    def __init__(self, turns: RunQueue, priority: int, number: int) -> None:
        self._turns = turns
        self.priority = priority
        self.place = (-priority, number)
        self.thread = threading.get_ident()
        self.holds = 1
        self.joined: Ticket | None = None

    @property
    def wanted(self) -> int:
        """How many runs of a higher priority wait for it."""
        return self._turns._wanting(self)

    def pause_if_wanted(self, should_stop: Stop = never) -> bool:
        """Let the runs of a higher priority that wait go first, between two tiles.

        Parameters
        ----------
        should_stop : callable, optional
            Asked a few times a second.

        Returns
        -------
        bool
            Whether to go on; False when it was stopped meanwhile, and the turn is not held any more.
        """
        return self._turns._pause(self, should_stop)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self._turns._release(self)


RUN_QUEUE = RunQueue()  # of this process
