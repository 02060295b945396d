"""A run in a thread: napari's worker, made to stop within one pass and to lose no error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from napari.qt.threading import GeneratorWorker, create_worker
from napari.utils.progress import cancelable_progress
from qtpy.compat import isalive

from napari_nnunet_cpu.errors import EngineError
from napari_nnunet_cpu.events import Event, TileDone
from napari_nnunet_cpu.settings import Settings
from napari_nnunet_cpu.viewer.layers import LayerImage
from napari_nnunet_cpu.viewer.time_points import LayerResult, segment_times

if TYPE_CHECKING:
    import numpy.typing as npt
    from magicgui.widgets import Widget

    from napari_nnunet_cpu.cases.case import Spacing
    from napari_nnunet_cpu.models import Model


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
        self, func: Callable[..., Generator[Event, None, LayerResult | None]], *args: Any, **kwargs: Any
    ) -> None:
        self.stop = threading.Event()
        super().__init__(func, *args, should_stop=self.stop.is_set, **kwargs)

    def quit(self) -> None:
        """Ask the run to stop."""
        self.stop.set()
        super().quit()

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self.stop.is_set()

    def work(self) -> Any:
        """Run in the thread; the base class leaves the generator open when told to quit."""
        try:
            return super().work()
        finally:
            self._gen.close()


class ActivityProgress(cancelable_progress):
    """The run's bar in napari's activity dock; its cancel button quits the worker."""

    def __init__(self, worker: RunWorker, description: str) -> None:
        self._worker = worker
        super().__init__(desc=description, total=0)
        worker.yielded.connect(self._show)
        worker.finished.connect(self.close)

    def cancel(self) -> None:
        """Stop the run."""
        super().cancel()
        self._worker.quit()

    def _show(self, event: Event) -> None:
        if isinstance(event, TileDone):
            self.total = event.total
            self.update(event.done - self.n)


def make_worker(
    image: LayerImage,
    model: Model,
    settings: Settings,
    spacing_mm: Spacing | None,
    slots: dict[str, Callable[..., None]],
    first_stage: npt.NDArray[Any] | None = None,
) -> RunWorker:
    """Make the worker of a run, not yet started. Call it on the main thread.

    Parameters
    ----------
    image : LayerImage
        What to segment, its time points; read in the thread.
    model : TrainedModel or sequence of them
        With what.
    settings : Settings
        How.
    spacing_mm : tuple of float or None
        Spacing (Z, Y, X) that the user states for the layer.
    slots : dict of str to callable
        For the worker's signals; without one for "errored" an error would end in the event loop.
    first_stage : numpy.ndarray, optional
        For cascades: labels of the first stage on the grid of the labels layer, instead of running it.

    Returns
    -------
    RunWorker
        napari knows it as a task, and quits it when the window is closed.
    """
    worker: RunWorker = create_worker(
        _events,
        image,
        model,
        settings,
        spacing_mm,
        first_stage,
        _start_thread=False,
        _connect=slots,
        _worker_class=RunWorker,
    )
    return worker


def _events(
    image: LayerImage,
    model: Model,
    settings: Settings,
    spacing_mm: Spacing | None,
    first_stage: npt.NDArray[Any] | None,
    should_stop: Callable[[], bool],
) -> Generator[Event, None, LayerResult | None]:
    """Go through the stages of the run; the body of the thread.

    A RuntimeError that leaves a generator disappears in Qt's worker, which takes it for its own
    deletion. So none leaves this one.
    """
    try:
        return (yield from segment_times(image, model, settings, spacing_mm, should_stop, first_stage))
    except RuntimeError as error:
        raise EngineError(f"the run failed: {error}") from error
