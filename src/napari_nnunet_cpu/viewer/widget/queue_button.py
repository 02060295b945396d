"""The button for background runs: starts and counts them, and reports their results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import Label, PushButton
from napari.utils.notifications import show_error
from qtpy.compat import isalive
from qtpy.QtCore import Qt

from napari_nnunet_cpu.viewer.results import title
from napari_nnunet_cpu.viewer.run.live_run import LiveRun
from napari_nnunet_cpu.viewer.run.worker import while_open

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

_TEXT = "Run in the background"


class QueueButton(PushButton):
    """Starts background runs, which pause while another run computes.

    Attributes
    ----------
    runs : list of LiveRun
        The background runs that wait or compute.
    note : Label
        The hidden results, and the error of the last run; the widget places it.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(
            text=_TEXT,
            tooltip="runs while no other run computes, and pauses for others: choose and run the next image meanwhile",
        )
        self.runs: list[LiveRun] = []
        self.note = Label(value="", visible=False)
        self.note.native.setWordWrap(True)
        self.note.native.setTextFormat(Qt.TextFormat.PlainText)
        self._viewer = viewer
        self._arrived: list[tuple[Labels, str]] = []
        self._failure = ""
        viewer.layers.events.removed.connect(self._tell)

    def start(self, run: LiveRun) -> None:
        """Start a run; `note` reports its end."""

        def leave(outcome: Labels | Exception | None) -> None:
            self.runs.remove(run)
            if isinstance(outcome, Exception):
                self._failure = f"{run.image.name}: {outcome}"
                show_error(self._failure)
            elif outcome is not None:
                self._arrived.append((outcome, f"{title(run.image)}: {run.remark}"))
                outcome.events.visible.connect(self._see)
            self._tell()

        run.ended.connect(while_open(self, leave))
        run.failed.connect(while_open(self, leave))
        self.runs.append(run)
        self._failure = ""
        self._arrived = [(labels, remark) for labels, remark in self._arrived if not labels.visible]
        self._tell()
        run.start()

    def _see(self, event: Any) -> None:
        """Remove a result from the note when it becomes visible."""
        self._arrived = [(labels, remark) for labels, remark in self._arrived if labels is not event.source]
        self._tell()

    def _tell(self, _: Any = None) -> None:
        """Update the count of runs and the note."""
        if not isalive(self.native):
            return
        self.text = _TEXT + (f" ({len(self.runs)} there)" if self.runs else "")
        self._arrived = [(labels, remark) for labels, remark in self._arrived if labels in self._viewer.layers]
        self.note.value = "\n".join(filter(None, [*(remark for _, remark in self._arrived), self._failure]))
        self.note.visible = bool(self.note.value)
