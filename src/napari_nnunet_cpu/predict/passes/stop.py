"""The callback that stops a run."""

from __future__ import annotations

from collections.abc import Callable

Stop = Callable[[], bool]  # called often, from any thread of the run; True stops the run


def never() -> bool:
    """The default callback: never stop."""
    return False
