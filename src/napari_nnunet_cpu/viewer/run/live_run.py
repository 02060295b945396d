"""A run on a layer of a viewer, computed in a thread while its labels appear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning
from psygnal import Signal
from qtpy.QtCore import QEventLoop

from napari_nnunet_cpu.boxes import Bounds
from napari_nnunet_cpu.errors import NNUNetCPUError
from napari_nnunet_cpu.events import TileDone
from napari_nnunet_cpu.models import Model, members_of
from napari_nnunet_cpu.predict import Focus
from napari_nnunet_cpu.settings import Settings
from napari_nnunet_cpu.viewer.canvas import guard_contexts, unwrapped
from napari_nnunet_cpu.viewer.foreground import Foreground
from napari_nnunet_cpu.viewer.image.layers import LayerImage
from napari_nnunet_cpu.viewer.results.labels import add_first_stage, add_with_names, labels_layer
from napari_nnunet_cpu.viewer.results.layer_result import LayerResult
from napari_nnunet_cpu.viewer.results.merge import MergeTarget
from napari_nnunet_cpu.viewer.results.origin import Origin, changes_of, title
from napari_nnunet_cpu.viewer.results.uncertainty import add_uncertainty
from napari_nnunet_cpu.viewer.run.focus_watch import FocusWatch
from napari_nnunet_cpu.viewer.run.layer_segmentation import FinalLabels, LayerEvent, LayerSegmentation
from napari_nnunet_cpu.viewer.run.preview import Preview
from napari_nnunet_cpu.viewer.run.worker import ActivityProgress, RunWorker, make_worker

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_nnunet_cpu.cases.case import Spacing


# Keeps runs alive while they compute, because nobody else may hold them.
_RUNNING: set[LiveRun] = set()


class LiveRun:
    """Segments a layer in a thread: the slice on screen first, with labels shown as soon as they are final.

    All methods must be called on the main thread, and all signals arrive there.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Holds the layers.
    layer : Image
        The source of `image`.
    image : LayerImage
        The image to segment.
    model, settings, spacing_mm, first_stage, folder
        See `LayerSegmentation`.
    target : MergeTarget, optional
        The layer that takes the labels. Without one, or if it can't take them any more, they get a new layer.
    priority : int
        Below 0 for a background run, which pauses while another run needs the computer.
    asked_for : callable, optional
        Whether the user still works on the image of this run; called at its end.

    Attributes
    ----------
    progressed : psygnal.Signal
        Emitted with every event of the run: `Waiting`, `StageStarted`, `TileDone`.
    painted : psygnal.Signal
        Emitted with `FinalLabels` that were painted into the preview.
    ended : psygnal.Signal
        Emitted with the labels layer, or with None if the run was cancelled. Then `start` resumes it.
    failed : psygnal.Signal
        Emitted with the exception. Computed tiles are kept, and the run can be started again.
    image : LayerImage
        The image to segment.
    preview : Preview
        Shows final labels before the end.
    target : MergeTarget or None
        The layer that takes the labels of the next result.
    result : LayerResult or None
        The last result.
    labels : Labels or None
        The layer of the last result.
    uncertainty : Image or None
        The layer of its uncertainty, if the settings ask for it.
    remark : str
        A remark on the last result for the user: for example, that the image has changed since the run began.
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
        folder: Path | None = None,
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
        self._segmentation = LayerSegmentation(
            image, model, settings, spacing_mm, first_stage, any_order=True, folder=folder
        )
        self._watch = FocusWatch(viewer, layer, image, self._look)
        self._worker: RunWorker | None = None
        self._foreground = Foreground(viewer)
        self._asked_to_stop = False
        self._abandoned = False
        self._reported_problem: str | None = None
        self._tiles_done = 0

    @property
    def running(self) -> bool:
        """Whether the run computes, or waits for another run."""
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
        """Whether the window or the program closes, so that nothing can be shown any more."""
        if self._worker is None:
            return False
        return self._worker.window_closed or (self._worker.cancelled and not self._asked_to_stop)

    @property
    def saving_problem(self) -> str | None:
        """Why the run is no longer saved, for the user; None if it is saved, or was not to be saved."""
        return self._segmentation.saving_problem

    def start(self) -> None:
        """Start or resume the run; does nothing while it is running."""
        if self._worker is not None:
            return
        self._asked_to_stop = False
        self._foreground = Foreground(self._viewer)
        task = f"segmenting {self.image.name}"
        self._worker = worker = make_worker(self._segmentation.steps, self._viewer, task, self._priority)
        ActivityProgress(worker, f"nnU-Net: {self.image.name}", self.cancel)

        def of_this(slot: Callable[..., None]) -> Callable[..., None]:
            """Let a slot ignore signals of an earlier start, which may arrive late."""
            return lambda *what: slot(*what) if worker is self._worker else None

        worker.yielded.connect(of_this(self._on_event))
        worker.returned.connect(of_this(self._on_result))
        worker.errored.connect(of_this(self._on_error))
        worker.finished.connect(of_this(self._on_finished))
        _RUNNING.add(self)
        self._watch.start()
        guard_contexts()
        # Before the worker starts, because making a layer suppresses warnings for a moment, as loading an engine does
        # in the worker. Until Python 3.14, two threads that do so at the same time may undo each other's filters.
        self.preview.show()
        worker.start()

    def cancel(self) -> None:
        """Stop before the next pass; computed tiles are kept."""
        if self._worker is not None:
            self._asked_to_stop = True
            self._worker.quit()

    def choose(self, box: Bounds | None = None, cover: bool = False) -> None:
        """Choose other tiles for the next start, see `Segmentation.choose`; computed tiles are kept.

        Raises `SettingsError` if they can't be chosen.
        """
        self._segmentation.choose(box, cover)

    def wait(self) -> Labels | None:
        """Process events of the window until the run has ended; return the layer, or None if it was cancelled.

        Raises the `NNUNetCPUError` that the run failed with.
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
        """Turn the preview's final labels into a selected layer and return it; None if there are none."""
        result = None if self.running else self._segmentation.partial()
        return None if result is None else self._as_new_layer(result, select=True)

    def close(self) -> None:
        """Remove the preview and unlock the run file, because the run will not be resumed."""
        self.cancel()
        self.preview.remove()
        if not self.running:
            self._segmentation.close()

    def abandon(self) -> None:
        """Stop for good, keep final labels as a layer, and warn if the run was not finished."""
        if self.running:
            self._abandoned = True
            self.cancel()
        elif self.unfinished:
            self._leave()
        else:
            self.close()

    def _leave(self) -> None:
        """Keep the final labels as a layer, and tell the user."""
        result = self._segmentation.partial() if self.preview.painted else None
        kept = None if result is None else self._as_new_layer(result, select=False)
        left = "nothing was finished" if kept is None else f"what was finished is in {kept.name}"
        self.close()
        show_warning(f"{title(self.image)}: the run was cancelled because its panel was closed; {left}")

    def _delivered(self, result: LayerResult, background: bool) -> Labels:
        target, self.target = self.target, None  # because it remembers the layer from before this run
        if target is None:
            return self._as_new_layer(result, select=not background)
        try:
            target.merge(result)
        except NNUNetCPUError as error:
            show_warning(f"{error}; the labels are in a new layer")
            return self._as_new_layer(result, select=not background)
        self.preview.remove()
        return target.layer

    def _as_new_layer(self, result: LayerResult, select: bool) -> Labels:
        """Add the layer of a result, as visible as the preview; without a preview, hidden unless selected."""
        image = self.image if result.origin is None else result.origin.image
        add_first_stage(self._viewer, result, image)
        layer = self.preview.become(result) if image.times == self.image.times else None
        if layer is None:
            visible = select or (self.preview.layer is not None and self.preview.layer.visible)
            self.preview.remove()
            layer = labels_layer(result, image)
            layer.visible = visible
            add_with_names(self._viewer, layer, result.label_names)
        if result.first_stage is not None:  # because its layer was added above the preview
            self._viewer.layers.move(self._viewer.layers.index(layer), len(self._viewer.layers))
        if select:
            self._viewer.layers.selection.active = layer
        return layer

    def _remark(self, labels: Labels, background: bool, merged: bool) -> str:
        """The remark on a result, for the user."""
        remarks = []
        if merged:
            remarks.append(f"merged into {labels.name}")
        elif background:
            remarks.append(f"{labels.name} is not selected" + ("" if labels.visible else ", and hidden"))
        change = changes_of(self.image)
        if change is not None:
            remarks.append(f"{title(self.image)} {change} during the run: the labels are those of the image before")
        return "; ".join(remarks)

    def _on_event(self, event: LayerEvent) -> None:
        if self._closing:
            return
        self._report_problem()
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
        background = self._priority < 0 or not self._asked_for() or self._foreground.left_for(self.preview.layer)
        target = self.target
        self.result, self.labels = result, self._delivered(result, background)
        if result.uncertainty is not None:
            self.uncertainty = add_uncertainty(self._viewer, result, self.image, visible=not background)
        self.remark = self._remark(self.labels, background, target is not None and self.labels is target.layer)
        self._segmentation.forget_saved()
        self._tiles_done = 0
        self._end()
        self.ended.emit(self.labels)

    def _on_error(self, error: Exception) -> None:
        if self._closing:
            return  # because `_on_finished` will report the end
        self._end()
        self._stop_showing()
        self._report_problem()
        self.failed.emit(error)

    def _on_finished(self) -> None:
        closing = self._closing
        self._end()
        if not closing:
            self._stop_showing()
            self._report_problem()  # again, because the last save comes after the last event
        self.ended.emit(None)

    def _stop_showing(self) -> None:
        """Leave a painted preview on screen; for an abandoned run, turn it into a layer."""
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

    def _look(self, focus: Focus | None) -> None:
        self._segmentation.focus = focus

    def _report_problem(self) -> None:
        """Warn once that the run is no longer saved, and why."""
        problem = self.saving_problem
        if problem != self._reported_problem and problem is not None:
            show_warning(f"{self.image.name}: {problem}")
        self._reported_problem = problem
