"""Tiles that are computed at the same time, each in a lane of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from types import TracebackType
from typing import TypeVar

from napari_nnunet_cpu.predict.passes.stop import Stop

Item = TypeVar("Item")
Found = TypeVar("Found")


def in_lanes(
    items: Iterable[Item], work: Callable[[Item], Found], lanes: int
) -> Generator[tuple[Item, Found], None, None]:
    """Do the work of items, as many at a time as there are lanes, and give it back in their order.

    An item is taken when a lane is free: what was given from that lane may be written over then. So what is done with
    it meanwhile does not keep the other lanes waiting. Closing the iterator waits for the work at hand.

    Parameters
    ----------
    items : iterable
        Asked for the next one in the calling thread.
    work : callable
        Called in a thread of the lane, or in the calling one where that is the only lane.
    lanes : int
        At least 1.

    Yields
    ------
    item, found
        What was to be done, and what the work gave. Its errors are raised here.
    """
    if lanes == 1:
        for item in items:
            yield item, work(item)
        return
    upcoming = iter(items)
    pools = [ThreadPoolExecutor(1, "lane") for _ in range(lanes)]
    try:
        begun = deque((pool, item, pool.submit(work, item)) for pool, item in zip(pools, upcoming, strict=False))
        while begun:
            pool, item, found = begun.popleft()
            yield item, found.result()
            begun.extend((pool, following, pool.submit(work, following)) for following in islice(upcoming, 1))
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


class Gate:
    """What the work in lanes asks before every step: whether to stop. It waits there while nobody takes what it gives.

    As a context manager it tells the lanes at its end to stop, whether it was open or shut.

    Parameters
    ----------
    should_stop : callable
        Says, too, that they should.
    """

    def __init__(self, should_stop: Stop) -> None:
        self._should_stop = should_stop
        self._open = threading.Event()
        self._open.set()
        self._left = False

    def stops(self) -> bool:
        """Whether to stop, once the gate is open."""
        self._open.wait()
        return self._left or self._should_stop()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Let nothing through inside the block; an error leaves it shut, until the end of the gate itself."""
        self._open.clear()
        yield
        self._open.set()

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._open.set()
