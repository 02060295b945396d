"""A control that stops a run by a condition of the test."""

from __future__ import annotations

from collections.abc import Callable

from napari_nnunet_cpu.predict import RunControl


class StopWhen(RunControl):
    """Stops once the condition holds; the run asks it before every pass."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        super().__init__()
        self._condition = condition

    def should_stop(self) -> bool:
        return self._condition()
