"""The button that starts a run in the background, counts those that are there, and says what arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import Label, PushButton
from napari.utils.notifications import show_error
from qtpy.compat import isalive
from qtpy.QtCore import Qt

from napari_nnunet_cpu.viewer.results.origin import title
from napari_nnunet_cpu.viewer.run.live_run import LiveRun
from napari_nnunet_cpu.viewer.run.worker import while_open

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

_TEXT = "Run in the background"


class QueueButton(PushButton):
    """Starts runs that pause while another one goes on, when it is given them.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layers are.

    Attributes
    ----------
    runs : list of LiveRun
        Those that wait, or go on while no other does.
    note : Label
        Which results are there and hidden, and what the last run failed with; placed by the widget.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(
            text=_TEXT,
            tooltip="when no other run goes on, and pausing when one does: choose and run the next image meanwhile",
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
        """Start a run; `note` says how it ended."""

        def leave(what: Labels | Exception | None) -> None:
            self.runs.remove(run)
            if isinstance(what, Exception):
                self._failure = f"{run.image.name}: {what}"
                show_error(self._failure)
            elif what is not None:
                self._arrived.append((what, f"{title(run.image)}: {run.remark}"))
                what.events.visible.connect(self._see)
            self._tell()

        run.ended.connect(while_open(self, leave))
        run.failed.connect(while_open(self, leave))
        self.runs.append(run)
        self._failure = ""
        self._arrived = [(labels, remark) for labels, remark in self._arrived if not labels.visible]
        self._tell()
        run.start()

    def _see(self, event: Any) -> None:
        """A result that is shown is no news any more."""
        self._arrived = [(labels, remark) for labels, remark in self._arrived if labels is not event.source]
        self._tell()

    def _tell(self, _: Any = None) -> None:
        """Say what is there now."""
        if not isalive(self.native):
            return
        self.text = _TEXT + (f" ({len(self.runs)} there)" if self.runs else "")
        self._arrived = [(labels, remark) for labels, remark in self._arrived if labels in self._viewer.layers]
        self.note.value = "\n".join(filter(None, [*(remark for _, remark in self._arrived), self._failure]))
        self.note.visible = bool(self.note.value)
