"""The threads of an export."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")


class Workers:
    """A limited number of threads, which start with the first work and end when the workers are released."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)

    def do(self, work: Callable[[Item], object], items: Iterable[Item]) -> None:
        """Do the work for every item, and wait for all of it; the first error is raised then."""
        futures = [self._pool.submit(work, item) for item in items]
        wait(futures)
        for future in futures:
            future.result()
