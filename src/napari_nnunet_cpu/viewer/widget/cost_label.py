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
    """Shows tiles, passes, seconds and memory for each preset; grey while newer ones are computed."""

    def __init__(self) -> None:
        super().__init__(value="")
        self.native.setWordWrap(True)
        self._saved = SavedRunList()
        self._boxes = NonzeroBoxes()
        self._shows_costs = False
        self._wanted: CostRequest | None = None
        self._computed: CostRequest | None = None  # in the thread, perhaps an older one
        self._compute_soon = qdebounced(self._compute, timeout=_PAUSE_MS)
        _messenger().found.connect(self._show)

    @property
    def pending(self) -> bool:
        """Whether the costs of the last request are still computed."""
        return self._wanted is not None

    def show_costs(self, request: CostRequest) -> None:
        """Show the costs of this request as soon as they are computed, and no longer those of earlier ones.

        Of what does not fit, the label shows the error.
        """
        self._wanted = request
        self.enabled = False
        if not self._shows_costs:
            self.value = ""  # because an error may be mended
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
            QThreadPool.globalInstance().start(partial(_find, self._wanted, self._saved, self._boxes, _messenger()))

    def _show(self, request: CostRequest, found: Costs | Exception) -> None:
        """Show what the thread found, unless something else is wanted by now."""
        if request is not self._computed:
            return  # that of another window
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
    """Brings what a thread found to the main thread."""

    found = Signal(object, object)


@cache
def _messenger() -> _Messenger:
    """One for all labels and to the end, because a thread must not be the last to hold an object of Qt."""
    return _Messenger()


def _find(request: CostRequest, saved: SavedRunList, boxes: NonzeroBoxes, messenger: _Messenger) -> None:
    """Compute the costs, in a thread. superqt's workers would change the filters of warnings in all threads."""
    found: Costs | Exception
    try:
        found = costs_of(request, saved.in_folder(runs_folder()), boxes.of(request.image))
    except Exception as error:  # noqa: BLE001  # because the main thread shows or raises it
        found = error
    messenger.found.emit(request, found)
