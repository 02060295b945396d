"""The dock widget: choose, run, see it happen, get a Labels layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, Label, ProgressBar, PushButton, Widget
from napari.utils.notifications import show_error

from napari_nnunet_cpu.errors import ModelError, NNUNetCPUError
from napari_nnunet_cpu.events import Event, Stage, StageStarted, TileDone, duration
from napari_nnunet_cpu.predict import estimate
from napari_nnunet_cpu.settings import PRESETS
from napari_nnunet_cpu.viewer.channel_choice import ChannelChoice
from napari_nnunet_cpu.viewer.first_stage_choice import FirstStageChoice
from napari_nnunet_cpu.viewer.labels import add_result
from napari_nnunet_cpu.viewer.model_choice import ModelChoice
from napari_nnunet_cpu.viewer.run_options import RunOptions
from napari_nnunet_cpu.viewer.worker import ActivityProgress, RunWorker, make_worker, while_open

if TYPE_CHECKING:
    import napari.viewer

    from napari_nnunet_cpu.viewer.layers import LayerImage
    from napari_nnunet_cpu.viewer.time_points import LayerResult


class SegmentWidget(Container[Widget]):
    """Segments image layers with an nnU-Net v2 model.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.

    Attributes
    ----------
    model, channels, first_stage, run_options : Widget
        The inputs.
    run_button : PushButton
        "Run"; "Cancel" while a run is going on.
    progress : ProgressBar
        Counts tiles.
    status : Label
        What is going on, and the time left.
    worker : RunWorker or None
        The run that is going on.
    """

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:  # noqa: UP037  # napari reads it at run time
        self._viewer = napari_viewer
        self.worker: RunWorker | None = None
        self.cost = Label(value="")
        self.run_button = PushButton(text="Run")
        self.progress = ProgressBar(value=0, max=1, visible=False)
        self.status = Label(value="")
        self._ready = False
        self.model = ModelChoice(self._model_changed)
        self.channels = ChannelChoice(napari_viewer, self._refresh_cost)
        self.first_stage = FirstStageChoice(napari_viewer, self._refresh_cost)
        self.first_stage_row: Container[Widget] = Container(widgets=[self.first_stage], labels=True)
        self.first_stage_row.margins = (0, 0, 0, 0)
        self.run_options = RunOptions(self.model.details, self._refresh_cost)
        super().__init__(
            widgets=[
                self.model,
                self.channels,
                self.channels.note,
                self.first_stage_row,
                self.run_options,
                self.cost,
                self.run_button,
                self.progress,
                self.status,
            ],
            labels=False,
        )
        for label in (self.cost, self.status):
            label.native.setWordWrap(True)
        self.native.layout().addStretch()
        self._ready = True
        self.run_button.clicked.connect(self._run_or_cancel)

    def run(self) -> RunWorker | None:
        """Start a run with what is chosen.

        Returns
        -------
        RunWorker or None
            None when something does not fit; the user is told what. The run that is going on,
            if there is one.
        """
        if self.worker is not None:
            return self.worker
        try:
            if not self.model.models:
                raise ModelError(self.model.problem)
            image = self.channels.image_to_run()
            spacing = self.channels.stated_spacing()
            settings = self.run_options.settings()
            first_stage = self.first_stage.labels(image)
            estimate(image.outline(spacing), self.model.models, settings, first_stage)
        except NNUNetCPUError as error:
            self._tell(str(error))
            return None
        slots: dict[str, Callable[..., None]] = {
            "yielded": self._on_event,
            "returned": lambda result: self._on_result(result, image),
            "errored": self._on_error,
            "finished": self._on_finished,
        }
        slots = {signal: while_open(self, slot) for signal, slot in slots.items()}
        worker = make_worker(image, self.model.models, settings, spacing, slots, first_stage)
        ActivityProgress(worker, f"nnU-Net: {image.name}")
        self.worker = worker
        self.run_button.text = "Cancel"
        self.progress.visible = True
        self.progress.max, self.progress.value = 0, 0
        self.status.value = StageStarted(Stage.PREPARE).text
        worker.start()
        return worker

    def cancel(self) -> None:
        """Stop the run before its next pass through the network."""
        if self.worker is not None:
            self.status.value = "cancelling …"
            self.worker.quit()

    def _run_or_cancel(self) -> None:
        if self.worker is None:
            self.run()
        else:
            self.cancel()

    def _on_event(self, event: Event) -> None:
        if self.worker is None or self.worker.cancelled:
            return
        if isinstance(event, TileDone):
            self.progress.max = event.total
            self.progress.value = event.done
        self.status.value = event.text

    def _on_result(self, result: LayerResult | None, image: LayerImage) -> None:
        if result is None or (self.worker is not None and self.worker.cancelled):
            return
        add_result(self._viewer, result, image)
        seconds = sum(result.provenance["seconds"].values())
        self.status.value = f"done in {duration(seconds)} on {result.provenance['runs'][-1]['device']}"

    def _on_error(self, error: Exception) -> None:
        self._tell(str(error) or type(error).__name__)

    def _on_finished(self) -> None:
        if self.worker is not None and self.worker.cancelled:
            self.status.value = f"cancelled after {self.progress.value} tiles; nothing was added"
        self.worker = None
        self.run_button.text = "Run"
        self.progress.visible = False

    def _tell(self, message: str) -> None:
        self.status.value = message
        show_error(message)

    def _model_changed(self) -> None:
        if self._ready and self.model.model is not None:
            self.channels.set_model(self.model.model)
        if self._ready:
            self.first_stage.set_models(self.model.models)
        self._refresh_cost()

    def _refresh_cost(self, *_: Any) -> None:
        """Say what each preset would cost on this image."""
        if not self._ready:
            return
        if not self.model.models:
            self.cost.value = ""
            return
        try:
            image = self.channels.image()
            outline = image.outline(self.channels.stated_spacing())
            given = self.first_stage.labels(image)
            costs = [
                (name, estimate(outline, self.model.models, self.run_options.settings(name), given)) for name in PRESETS
            ]
        except NNUNetCPUError as error:
            self.cost.value = str(error)
            return
        several = len(image.times) if self.channels.time.value == "all" else 1
        each = f", for each of {several} time points" if several > 1 else ""
        lines = [f"{name}: up to {cost.tiles} tiles, {cost.passes} passes{each}" for name, cost in costs]
        self.cost.value = "<br>".join([*lines, f"memory: up to {costs[0][1].bytes / 2**20:,.0f} MB"])
