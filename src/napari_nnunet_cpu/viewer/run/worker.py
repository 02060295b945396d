"""A run in a thread: napari's worker, made to stop within one pass and to lose no error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from napari.qt.threading import GeneratorWorker
from napari.utils.progress import cancelable_progress
from napari.utils.task_status import Status
from qtpy.compat import isalive
from qtpy.QtCore import QThreadPool
from superqt.utils import WorkerBase, create_worker

from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.events import TileDone
from napari_nnunet_cpu.predict.run_queue import RUN_QUEUE
from napari_nnunet_cpu.viewer.canvas import unwrapped, window_of
from napari_nnunet_cpu.viewer.results.layer_result import LayerResult
from napari_nnunet_cpu.viewer.run.layer_segmentation import LayerEvent

if TYPE_CHECKING:
    from magicgui.widgets import Widget
    from napari.components import ViewerModel

Steps = Callable[[Callable[[], bool]], Generator[LayerEvent, None, LayerResult | None]]


def while_open(widget: Widget, slot: Callable[..., None]) -> Callable[..., None]:
    """The slot, doing nothing once the widget is gone: workers may end after their window."""

    def guarded(*arguments: Any) -> None:
        if isalive(widget.native):
            slot(*arguments)

    return guarded


class RunWorker(GeneratorWorker):
    """Computes a run in a thread; `quit` takes effect before the next pass through the network.

    Signals are those of napari's workers: `yielded` carries the run's events, `returned` its
    `LayerResult`, `errored` an exception, `finished` comes last, always.
    """

    def __init__(
        self, func: Callable[..., Generator[LayerEvent, None, LayerResult | None]], *args: Any, **kwargs: Any
    ) -> None:
        self.stop = threading.Event()
        self.window_closed = False
        super().__init__(func, *args, should_stop=self.stop.is_set, **kwargs)

    def quit(self) -> None:
        """Ask the run to stop."""
        self.stop.set()
        super().quit()

    def quit_with_window(self) -> None:
        """Ask the run to stop because its window is being closed, where nothing can be shown any more."""
        self.window_closed = True
        self.quit()

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self.stop.is_set()

    def work(self) -> Any:
        """Run in the thread; the base class leaves the generator open when told to quit."""
        pool = QThreadPool.globalInstance()
        # The pool has a thread for each core. Runs, of which all but one wait, are none of its count:
        # else they would keep models from being read, and each other from saying that they wait.
        pool.releaseThread()
        try:
            return super().work()
        finally:
            self._gen.close()
            pool.reserveThread()


class ActivityProgress(cancelable_progress):
    """The run's bar in napari's activity dock; its cancel button calls `cancel`."""

    def __init__(self, worker: RunWorker, description: str, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        super().__init__(desc=description, total=0)
        worker.yielded.connect(self._show)
        worker.finished.connect(self.close)

    def cancel(self) -> None:
        """Stop the run."""
        super().cancel()
        self._cancel()

    def _show(self, event: LayerEvent) -> None:
        if isinstance(event, TileDone):
            self.total = event.total
            self.update(event.done - self.n)


def make_worker(steps: Steps, viewer: ViewerModel, doing: str, priority: int = 0) -> RunWorker:
    """Make the worker of a run, not yet started. Call it on the main thread.

    Parameters
    ----------
    steps : callable
        Takes `should_stop` and goes through the run, as `LayerSegmentation.steps`.
    viewer : napari.Viewer or napari.components.ViewerModel
        The run is a task of its window, as `belong_to` says.
    doing : str
        What the run does, for people.
    priority : int
        Below 0 for a run that pauses while another one wants the computer.

    Returns
    -------
    RunWorker
        Nobody tells of an error but who listens to `errored`.
    """
    worker: RunWorker = create_worker(
        _events, steps, priority, _start_thread=False, _ignore_errors=True, _worker_class=RunWorker
    )
    belong_to(viewer, worker, doing, worker.quit_with_window)
    return worker


def belong_to(viewer: ViewerModel, worker: WorkerBase[Any], doing: str, leave: Callable[[], None]) -> None:
    """Make a worker a task of the viewer's window, which asks before it is closed, and then calls `leave`.

    napari's own `create_worker` takes whichever window is in front, so that closing another one would quit the worker.
    """
    window = window_of(unwrapped(viewer))
    if window is None:
        return
    task = window._register_task_status("napari-nnunet-cpu", Status.BUSY, doing, cancel_callback=leave)

    def over(_: None = None) -> None:
        window._update_task_status(task, Status.COMPLETED, doing)

    worker.finished.connect(over)


def _events(
    steps: Steps, priority: int, should_stop: Callable[[], bool]
) -> Generator[LayerEvent, None, LayerResult | None]:
    """Go through the steps of the run when it is its turn; the body of the thread.

    A RuntimeError that leaves a generator disappears in Qt's worker, which takes it for its own
    deletion. So none leaves this one.
    """
    try:
        return (yield from RUN_QUEUE.in_focus_order(steps(should_stop), should_stop, priority))
    except RuntimeError as error:
        raise EngineError(f"the run failed: {error}") from error
