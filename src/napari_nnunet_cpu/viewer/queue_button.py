"""The button that starts a run in the background, and counts those that are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from magicgui.widgets import PushButton

from napari_nnunet_cpu.viewer.live_run import LiveRun
from napari_nnunet_cpu.viewer.worker import while_open

if TYPE_CHECKING:
    from napari.layers import Labels

_TEXT = "Run in the background"


class QueueButton(PushButton):
    """Starts runs that pause while another one goes on, when it is given them.

    Parameters
    ----------
    say : callable
        Told a message, and whether it is an error.

    Attributes
    ----------
    runs : list of LiveRun
        Those that wait, or go on while no other does.
    """

    def __init__(self, say: Callable[[str, bool], None]) -> None:
        super().__init__(
            text=_TEXT,
            tooltip="when no other run goes on, and pausing when one does: choose and run the next image meanwhile",
        )
        self.runs: list[LiveRun] = []
        self._say = say

    def start(self, run: LiveRun) -> None:
        """Start a run, and tell when it fails."""

        def leave(what: Labels | Exception | None) -> None:
            self.runs.remove(run)
            if isinstance(what, Exception):
                self._say(f"{run.image.name}: {what}", True)
            self._count()

        run.ended.connect(while_open(self, leave))
        run.failed.connect(while_open(self, leave))
        self.runs.append(run)
        self._count()
        run.start()

    def _count(self) -> None:
        self.text = _TEXT + (f" ({len(self.runs)} there)" if self.runs else "")
