"""How whoever drives a run says that it should stop."""

from __future__ import annotations

from collections.abc import Callable

Stop = Callable[[], bool]  # asked now and then, from threads of the run


def never() -> bool:
    """Nobody stops it."""
    return False
