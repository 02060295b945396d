"""Show the cost of a run for each preset, computed in a thread while the window stays usable."""

from __future__ import annotations

from functools import cache, partial

from magicgui.widgets import Label
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QThreadPool, Signal
from superqt.utils import qdebounced

from napari_nnunet_cpu.errors import NNUNetCPUError
from napari_nnunet_cpu.predict import SavedRunList
from napari_nnunet_cpu.resources import runs_folder
from napari_nnunet_cpu.viewer.run.costs import CostRequest, Costs, NonzeroBoxes, costs_of

# A pause in typing after which the costs are computed.
_PAUSE_MS = 100


class CostLabel(Label):
    """Shows tiles, passes, seconds and memory of each preset; grey while newer costs are computed."""

    def __init__(self) -> None:
        super().__init__(value="")
        self.native.setWordWrap(True)
        self._saved = SavedRunList()
        self._boxes = NonzeroBoxes()
        self._shows_costs = False
        self._wanted: CostRequest | None = None
        self._computed: CostRequest | None = None  # in the thread, perhaps an older request
        self._compute_soon = qdebounced(self._compute, timeout=_PAUSE_MS)
        _messenger().found.connect(self._show)

    @property
    def pending(self) -> bool:
        """Whether the costs of the last request are still being computed."""
        return self._wanted is not None

    def show_costs(self, request: CostRequest) -> None:
        """Show the costs of this request once they are computed, or the error if the inputs do not fit.

        Costs of earlier requests are not shown any more.
        """
        self._wanted = request
        self.enabled = False
        if not self._shows_costs:
            self.value = ""  # because this request may have no error
        self._compute_soon()

    def say(self, text: str) -> None:
        """Show a text at once, instead of costs."""
        self._wanted, self._shows_costs = None, False
        self.enabled = True
        self.value = text

    def forget_saved_runs(self) -> None:
        """List the saved runs again for the next request, because a run has ended."""
        self._saved = SavedRunList()  # a new one, because a thread may fill the old one now

    def _compute(self) -> None:
        """Compute the last request in a thread, one at a time."""
        if self._wanted is not None and self._computed is None and isalive(self.native):
            self._computed = self._wanted
            # Without superqt's worker, because it changes the filters of warnings in all threads.
            QThreadPool.globalInstance().start(partial(_find, self._wanted, self._saved, self._boxes, _messenger()))

    def _show(self, request: CostRequest, found: Costs | Exception) -> None:
        """Show the costs or the error from the thread, unless another request came meanwhile."""
        if request is not self._computed:
            return  # because it is a request of another window
        self._computed = None
        if not isalive(self.native):
            return
        if request is not self._wanted:
            self._compute()
            return
        if isinstance(found, Costs):
            self.say(found.text)
            self._shows_costs = True
        elif isinstance(found, NNUNetCPUError):
            self.say(str(found))
        else:
            self.say("")
            raise found


class _Messenger(QObject):
    """Brings the costs from a thread to the main thread."""

    found = Signal(object, object)


@cache
def _messenger() -> _Messenger:
    """The messenger of the whole process, because a thread must not be the last to hold an object of Qt."""
    return _Messenger()


def _find(request: CostRequest, saved: SavedRunList, boxes: NonzeroBoxes, messenger: _Messenger) -> None:
    """Compute the costs, in a thread."""
    found: Costs | Exception
    try:
        found = costs_of(request, saved.in_folder(runs_folder()), boxes.of(request.image))
    except Exception as error:  # noqa: BLE001  # because the main thread shows or raises it
        found = error
    messenger.found.emit(request, found)
