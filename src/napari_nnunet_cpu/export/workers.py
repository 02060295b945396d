"""The threads of an export."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")


class Workers:
    """At most so many threads, which begin with the first work, and end when the workers are let go."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)

    def do(self, work: Callable[[Item], object], items: Iterable[Item]) -> None:
        """Do the work for every item, and wait for all of it; the first error is raised then."""
        futures = [self._pool.submit(work, item) for item in items]
        wait(futures)
        for future in futures:
            future.result()
