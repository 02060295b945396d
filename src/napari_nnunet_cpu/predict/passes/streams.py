"""Compute several tiles at the same time, each in a stream of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


def in_streams(
    items: Iterable[Item], work: Callable[[Item], Found], streams: int
) -> Generator[tuple[Item, Found], None, None]:
    """Apply `work` to items, as many at a time as there are streams, and yield (item, result) in the items' order.

    A stream takes its next item after its last result was consumed, because the engine may overwrite that result. The
    next item is fetched in the calling thread. `work` runs in the threads of the streams, or with one stream in the
    calling thread, and its errors are raised here. Closing the generator waits for work that has begun.
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
    """A gate before every pass: it stops the streams if `should_stop` says so, and pauses them while it is shut.

    It is a context manager, at whose end the streams stop, whether the gate is open or shut.
    """

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self._open = threading.Event()
        self._open.set()
        self._left = False

    def stops(self) -> bool:
        """Wait until the gate is open; returns whether to stop."""
        self._open.wait()
        return self._left or self._should_stop()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Keep the gate shut during the block; after an error it stays shut until the gate itself ends."""
        self._open.clear()
        yield
        self._open.set()

    def __enter__(self) -> PauseGate:
        return self

    def __exit__(self, *_: object) -> None:
        self._left = True
        self._open.set()
