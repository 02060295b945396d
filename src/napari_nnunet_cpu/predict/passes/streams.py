"""Tiles that are computed at the same time, each in a stream of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from napari_nnunet_cpu.predict.passes.stop import Stop

Item = TypeVar("Item")
Found = TypeVar("Found")


def in_streams(
    items: Iterable[Item], work: Callable[[Item], Found], streams: int
) -> Generator[tuple[Item, Found], None, None]:
    """Do the work of items, as many at a time as there are streams, and yield the results in the items' order.

    A stream takes its next item when its last result was consumed, because the engine may overwrite that result. The
    other streams compute meanwhile. Closing the iterator waits for the work that has begun.

    Parameters
    ----------
    items : iterable
        Asked for the next one in the calling thread.
    work : callable
        Called in a thread of the stream, or in the calling one where that is the only stream.
    streams : int
        At least 1.

    Yields
    ------
    item, found
        What was to be done, and what the work gave. Its errors are raised here.
    """
    if streams == 1:
        for item in items:
            yield item, work(item)
        return
    upcoming = iter(items)
    pools = [ThreadPoolExecutor(1, "stream") for _ in range(streams)]
    try:
        begun = deque((pool, item, pool.submit(work, item)) for pool, item in zip(pools, upcoming, strict=False))
        while begun:
            pool, item, found = begun.popleft()
            yield item, found.result()
            begun.extend((pool, following, pool.submit(work, following)) for following in islice(upcoming, 1))
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


class PauseGate:
    """Tells the work in streams before every step whether to stop, and holds it while nobody takes its results.

    As a context manager it tells the streams at its end to stop, whether it was open or shut.

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

    def __enter__(self) -> PauseGate:
        return self

    def __exit__(self, *_: object) -> None:
        self._left = True
        self._open.set()
