"""Run in a thread: napari's worker, which stops within one pass and loses no error."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from napari.qt.threading import GeneratorWorker
from napari.utils.progress import cancelable_progress, progress
from napari.utils.task_status import Status
from qtpy.compat import isalive
from qtpy.QtCore import QThreadPool
from superqt.utils import WorkerBase, create_worker

from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.events import TileDone
from napari_nnunet_cpu.viewer.canvas import unwrapped, window_of
from napari_nnunet_cpu.viewer.results import LayerResult
from napari_nnunet_cpu.viewer.run.layer_segmentation import LayerEvent, LayerSegmentation
from napari_nnunet_cpu.viewer.run.run_queue import RUN_QUEUE

if TYPE_CHECKING:
    from magicgui.widgets import Widget
    from napari.components import ViewerModel


def while_open(widget: Widget, slot: Callable[..., None]) -> Callable[..., None]:
    """The slot, without effect once the widget is closed, because workers may outlive their window."""

    def guarded(*arguments: Any) -> None:
        if isalive(widget.native):
            slot(*arguments)

    return guarded


class RunWorker(GeneratorWorker):
    """Computes a segmentation in a thread; `quit` takes effect before the next pass.

    Its signals are those of napari's workers: `yielded` carries events of the run, `returned` its
    `LayerResult`, `errored` an exception; `finished` always comes last.
    """

    def __init__(
        self,
        func: Callable[..., Generator[LayerEvent, None, LayerResult | None]],
        segmentation: LayerSegmentation,
        priority: int,
    ) -> None:
        self.window_closed = False
        self._control = segmentation.control
        super().__init__(func, segmentation, priority)

    def quit(self) -> None:
        """Ask the run to stop."""
        self._control.stop()
        super().quit()

    def quit_with_window(self) -> None:
        """Ask the run to stop because its window closes, after which nothing can be shown."""
        self.window_closed = True
        self.quit()

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self._control.should_stop()

    def work(self) -> Any:
        """Run in the thread, and close the generator at the end, which the base class omits."""
        pool = QThreadPool.globalInstance()
        # The pool has one thread per core. Runs do not count, because all but one of them only wait, and would keep
        # other workers from reading models, and each other from reporting that they wait.
        pool.releaseThread()
        try:
            return super().work()
        finally:
            self._gen.close()
            pool.reserveThread()


class ActivityProgress(cancelable_progress):
    """The progress bar of a run in napari's activity dock; its cancel button calls `cancel`."""

    def __init__(self, worker: RunWorker, description: str, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._drawing = False
        super().__init__(desc=description, total=0)
        worker.yielded.connect(self._show)
        worker.finished.connect(self.close)

    def cancel(self) -> None:
        """Stop the run."""
        super().cancel()
        self._cancel()

    def _show(self, event: LayerEvent) -> None:
        if not isinstance(event, TileDone):
            return
        self.total = event.total
        step = event.done - self.n
        if self._drawing:  # napari delivers further events while it draws; drawing these, too, would nest without end
            super(progress, self).update(step)
            return
        self._drawing, drawn = True, event.done
        self.update(step)
        while drawn != self.n and self in self._all_instances:
            drawn = self.n
            self.update(0)
        self._drawing = False


def make_worker(segmentation: LayerSegmentation, viewer: ViewerModel, task: str, priority: int = 0) -> RunWorker:
    """Make the worker of a segmentation, without starting it. For the main thread only.

    `task` is the name of the run for the user, and a `priority` below 0 lets it pause for other runs. Errors are only
    reported to slots of `errored`.
    """
    worker: RunWorker = create_worker(
        _events, segmentation, priority, _start_thread=False, _ignore_errors=True, _worker_class=RunWorker
    )
    belong_to(viewer, worker, task, worker.quit_with_window)
    return worker


def belong_to(viewer: ViewerModel, worker: WorkerBase[Any], task: str, leave: Callable[[], None]) -> None:
    """Make a worker a task of the viewer's window, which asks before it closes, and then calls `leave`.

    napari's own `create_worker` uses the window in front, so closing an unrelated window would quit the worker.
    """
    window = window_of(unwrapped(viewer))
    if window is None:
        return
    status = window._register_task_status("napari-nnunet-cpu", Status.BUSY, task, cancel_callback=leave)

    def over(_: None = None) -> None:
        window._update_task_status(status, Status.COMPLETED, task)

    worker.finished.connect(over)


def _events(segmentation: LayerSegmentation, priority: int) -> Generator[LayerEvent, None, LayerResult | None]:
    """Go through the steps of the segmentation when it is its turn: the body of the thread.

    Qt's worker swallows a RuntimeError of a generator, because it takes it for its own deletion. So this generator
    turns it into an `EngineError`.
    """
    try:
        yield from RUN_QUEUE.in_turn(segmentation.steps(), segmentation.control.should_stop, priority)
    except RuntimeError as error:
        raise EngineError(f"the run failed: {error}") from error
    return segmentation.result
