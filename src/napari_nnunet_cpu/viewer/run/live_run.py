"""A run on a layer of a viewer, computed in a thread while its labels appear; it can be cancelled and resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning
from psygnal import Signal
from qtpy.QtCore import QEventLoop

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.events import TileDone
from napari_nnunet_cpu.models import Model, members_of
from napari_nnunet_cpu.predict import TileSelection
from napari_nnunet_cpu.settings import Settings
from napari_nnunet_cpu.viewer.canvas import guard_contexts, unwrapped
from napari_nnunet_cpu.viewer.foreground import Foreground
from napari_nnunet_cpu.viewer.image import LayerImage
from napari_nnunet_cpu.viewer.results import LayerResult, MergeTarget, Origin, add_uncertainty, title
from napari_nnunet_cpu.viewer.run.delivery import Delivery
from napari_nnunet_cpu.viewer.run.focus_watch import FocusWatch
from napari_nnunet_cpu.viewer.run.layer_segmentation import FinalLabels, LayerEvent, LayerSegmentation
from napari_nnunet_cpu.viewer.run.preview import Preview
from napari_nnunet_cpu.viewer.run.worker import ActivityProgress, RunWorker, make_worker

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_nnunet_cpu.cases import Spacing


# Holds the runs in progress, so that a caller need not keep a reference.
_RUNNING: set[LiveRun] = set()


class LiveRun:
    """Segment a layer in a thread. Tiles in view come first, and labels appear once they are final.

    Call all methods on the main thread; all signals are emitted there.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        The viewer that shows the layer and gets the labels.
    layer : Image
        The layer of the snapshot `image`; the labels lie on it.
    image : LayerImage
        The image to segment.
    model, settings, spacing_mm, first_stage, folder
        See `LayerSegmentation`.
    target : MergeTarget, optional
        The layer that takes the labels. The run makes a new layer if this is None or can't take them any more.
    priority : int
        Below 0 for a background run, which pauses while another run needs the computer.
    asked_for : callable, optional
        Asked at the end: whether the user still looks at the image and model of this run.

    Attributes
    ----------
    progressed : psygnal.Signal
        Emits every event of the run: `Waiting`, `StageStarted`, `TileDone`.
    painted : psygnal.Signal
        Emits `FinalLabels` once they are in the preview.
    ended : psygnal.Signal
        Emits the labels layer, or None if the run was cancelled; then `start` resumes it.
    failed : psygnal.Signal
        Emits the exception; computed tiles stay, and `start` resumes the run.
    control : RunControl
        Steers the run: its focus, and the tiles for the next start.
    image : LayerImage
        The image to segment.
    preview : Preview
        The layer in which final labels appear before the end.
    target : MergeTarget or None
        The layer that takes the labels of the next result.
    result : LayerResult or None
        The last result.
    labels : Labels or None
        The layer of the last result.
    uncertainty : Image or None
        The layer of the last result's uncertainty, if the settings ask for it.
    remark : str
        A note on the last result, for people: it arrived in the background, or the image changed during the run.
    """

    progressed = Signal(object)
    painted = Signal(object)
    ended = Signal(object)
    failed = Signal(object)

    def __init__(
        self,
        viewer: ViewerModel,
        layer: Image,
        image: LayerImage,
        model: Model,
        settings: Settings,
        spacing_mm: Spacing | None = None,
        first_stage: npt.NDArray[Any] | None = None,
        *,
        folder: Path | Callable[[], Path | None] | None = None,
        target: MergeTarget | None = None,
        priority: int = 0,
        asked_for: Callable[[], bool] = lambda: True,
    ) -> None:
        viewer = unwrapped(viewer)
        self.image = image
        self.target = target
        self.result: LayerResult | None = None
        self.labels: Labels | None = None
        self.uncertainty: Image | None = None
        self.remark = ""
        self._viewer = viewer
        self._priority = priority
        self._asked_for = asked_for
        first = members_of(model)[0]
        origin = Origin(image, first, spacing_mm, {}, preview=True)
        self.preview = Preview(viewer, image, dict(first.labels.names), first.labels.dtype, origin, priority >= 0)
        self._delivery = Delivery(viewer, image, self.preview)
        self._segmentation = LayerSegmentation(
            image, model, settings, spacing_mm, first_stage, any_order=True, folder=folder
        )
        self.control = self._segmentation.control
        self._watch = FocusWatch(viewer, layer, image, self.control)
        self._worker: RunWorker | None = None
        self._foreground = Foreground(viewer)
        self._asked_to_stop = False
        self._abandoned = False
        self._told: str | None = None
        self._tiles_done = 0

    @property
    def running(self) -> bool:
        """Whether the run computes or waits for another run."""
        return self._worker is not None

    @property
    def unfinished(self) -> bool:
        """Whether the user or an error stopped the run half-way, so that it can be resumed."""
        return (self._tiles_done > 0 or self.preview.painted) and not self.running

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self._asked_to_stop or (self._worker is not None and self._worker.cancelled)

    @property
    def _closing(self) -> bool:
        """Whether the window or the program is closing, so that nothing can be shown any more."""
        if self._worker is None:
            return False
        return self._worker.window_closed or (self._worker.cancelled and not self._asked_to_stop)

    @property
    def saving_problem(self) -> str | None:
        """Why the run is not saved any more, for people; None if it is saved or was not to be saved."""
        return self._segmentation.files.problem

    def start(self) -> None:
        """Start or resume the run; does nothing while it is running."""
        if self._worker is not None:
            return
        self._asked_to_stop = False
        self._foreground = Foreground(self._viewer)
        self.control.restart()
        doing = f"segmenting {self.image.name}"
        self._worker = worker = make_worker(self._segmentation, self._viewer, doing, self._priority)
        ActivityProgress(worker, f"nnU-Net: {self.image.name}", self.cancel)

        def of_this(slot: Callable[..., None]) -> Callable[..., None]:
            """The slot, deaf to late signals of an earlier start."""
            return lambda *what: slot(*what) if worker is self._worker else None

        worker.yielded.connect(of_this(self._on_event))
        worker.returned.connect(of_this(self._on_result))
        worker.errored.connect(of_this(self._on_error))
        worker.finished.connect(of_this(self._on_finished))
        _RUNNING.add(self)
        self._watch.start()
        guard_contexts()
        # Before the worker starts, because making a layer and loading an engine both ignore warnings for a moment,
        # and until Python 3.14 two threads that do so at once may undo each other's filters.
        self.preview.show()
        worker.start()

    def cancel(self) -> None:
        """Stop before the next pass through the network; computed tiles stay."""
        if self._worker is not None:
            self._asked_to_stop = True
            self._worker.quit()

    def choose(self, box: Box | None = None, cover: bool = False) -> None:
        """Select other tiles for the next start, for a box and cover as in `Settings`; computed tiles stay."""
        self.control.selection = TileSelection(box, cover)

    def wait(self) -> Labels | None:
        """Process events of the window until the run has ended.

        Returns
        -------
        Labels or None
            The labels layer; None if the run was cancelled.

        Raises
        ------
        NNUNetCPUError
            The error that stopped the run.
        """
        loop, found = QEventLoop(), []

        def end(what: Any) -> None:
            found.append(what)
            loop.quit()

        self.ended.connect(end)
        self.failed.connect(end)
        if self.running:
            loop.exec()
        self.ended.disconnect(end)
        self.failed.disconnect(end)
        if found and isinstance(found[0], Exception):
            raise found[0]
        return found[0] if found else self.labels

    def keep(self) -> Labels | None:
        """Turn the final labels into a selected layer and remove the preview; None if no label is final."""
        result = None if self.running else self._segmentation.partial()
        return None if result is None else self._delivery.new_layer(result, select=True)

    def close(self) -> None:
        """Remove the preview and release the run file, because the run will not be resumed here."""
        self.cancel()
        self.preview.remove()
        if not self.running:
            self._segmentation.close()

    def abandon(self) -> None:
        """Stop and never resume. Final labels become a layer; a warning says so if the run was unfinished."""
        if self.running:
            self._abandoned = True
            self.cancel()
        elif self.unfinished:
            self._leave()
        else:
            self.close()

    def _leave(self) -> None:
        """Turn the final labels into a layer, and warn that the run was cancelled."""
        result = self._segmentation.partial() if self.preview.painted else None
        layer = None if result is None else self._delivery.new_layer(result, select=False)
        left = "nothing was finished" if layer is None else f"the finished labels are in {layer.name}"
        self.close()
        show_warning(f"{title(self.image)}: the run was cancelled because its panel was closed; {left}")

    def _on_event(self, event: LayerEvent) -> None:
        if self._closing:
            return
        self._tell_unsaved()
        if isinstance(event, FinalLabels):
            self.preview.paint(event)
            self.painted.emit(event)
            return
        if isinstance(event, TileDone):
            self._tiles_done = event.done
        self.progressed.emit(event)

    def _on_result(self, result: LayerResult | None) -> None:
        if result is None or self._worker is None or self._worker.cancelled:
            return
        behind = self._priority < 0 or not self._asked_for() or self._foreground.left_for(self.preview.layer)
        target, self.target = self.target, None  # used once, because it compares with the layer before this run
        self.result = result
        self.labels, self.remark = self._delivery.deliver(result, target, behind)
        if result.uncertainty is not None:
            self.uncertainty = add_uncertainty(self._viewer, result, self.image, visible=not behind)
        self._segmentation.files.remove()
        self._tiles_done = 0
        self._end()
        self.ended.emit(self.labels)

    def _on_error(self, error: Exception) -> None:
        if self._closing:
            return  # `_on_finished` emits the end
        self._end()
        self._stop_showing()
        self._tell_unsaved()
        self.failed.emit(error)

    def _on_finished(self) -> None:
        closing = self._closing
        self._end()
        if not closing:
            self._stop_showing()
            self._tell_unsaved()  # because the last save came after the last event
        self.ended.emit(None)

    def _stop_showing(self) -> None:
        """Keep a painted preview and remove an empty one; after `abandon`, turn its labels into a layer."""
        if self._abandoned:
            self._leave()
        elif self.preview.painted:
            self.preview.finish()
        else:
            self.preview.remove()

    def _end(self) -> None:
        self._worker = None
        _RUNNING.discard(self)
        self._watch.stop()

    def _tell_unsaved(self) -> None:
        """Warn once that the run is not saved any more, and why."""
        problem = self.saving_problem
        if problem != self._told and problem is not None:
            show_warning(f"{self.image.name}: {problem}")
        self._told = problem
