"""The dock widget: choose an image and a model, run, and get a Labels layer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, Label, ProgressBar, PushButton, Widget
from napari.utils.notifications import show_error
from qtpy.QtCore import QThreadPool

from napari_nnunet_cpu.errors import ModelError, NNUNetCPUError
from napari_nnunet_cpu.events import Event, Stage, StageStarted, TileDone, duration
from napari_nnunet_cpu.settings import PRESETS, Settings
from napari_nnunet_cpu.viewer.canvas import unwrapped
from napari_nnunet_cpu.viewer.results import MergeTarget, prepare_colors, state_of
from napari_nnunet_cpu.viewer.run.costs import CostRequest, folder_for
from napari_nnunet_cpu.viewer.run.live_run import LiveRun
from napari_nnunet_cpu.viewer.run.worker import while_open
from napari_nnunet_cpu.viewer.widget.channel_picker import ChannelPicker
from napari_nnunet_cpu.viewer.widget.cost_label import CostLabel
from napari_nnunet_cpu.viewer.widget.first_stage_picker import FirstStagePicker
from napari_nnunet_cpu.viewer.widget.model_picker import ModelPicker
from napari_nnunet_cpu.viewer.widget.part_picker import PartPicker
from napari_nnunet_cpu.viewer.widget.preferences import begin_with, chosen, read, remember
from napari_nnunet_cpu.viewer.widget.queue_button import QueueButton
from napari_nnunet_cpu.viewer.widget.result_picker import ResultPicker
from napari_nnunet_cpu.viewer.widget.run_options import RunOptions
from napari_nnunet_cpu.viewer.widget.session_picker import Chosen, SessionPicker
from napari_nnunet_cpu.viewer.widget.uncertainty_button import UncertaintyButton

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Labels

    from napari_nnunet_cpu.viewer.image import LayerImage


class SegmentWidget(Container[Widget]):
    """Segments image layers with an nnU-Net v2 model.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Holds the layers.

    Attributes
    ----------
    model, channels, first_stage, part, run_options : Widget
        The inputs.
    run_button : PushButton
        "Run"; "Cancel" during a run, "Continue" if a run with the same inputs was cancelled.
    queue_button : QueueButton
        Starts background runs and holds them.
    uncertainty_button : UncertaintyButton
        Walks through the slices by their uncertainty, if a run measured it.
    keep_button : PushButton
        Makes a layer of the final labels of a cancelled run.
    progress : ProgressBar
        Counts tiles.
    status : Label
        The present stage and the time left.
    live : LiveRun or None
        The present run, or a cancelled one that can be resumed.
    """

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:  # noqa: UP037  # napari reads it at run time
        self._viewer = viewer = unwrapped(napari_viewer)
        self.live: LiveRun | None = None
        self._inputs: tuple[Any, ...] = ()
        self._status_inputs: tuple[Any, ...] = ()
        self.cost = CostLabel()
        self.run_button = PushButton(text="Run")
        self.queue_button = QueueButton(viewer)
        self.keep_button = PushButton(text="Keep finished labels", visible=False)
        self.uncertainty_button = UncertaintyButton(viewer, self._say)
        self.progress = ProgressBar(value=0, max=1, visible=False)
        self.status = Label(value="")
        self._ready = False
        self.model = ModelPicker(self._model_changed)
        self.channels = ChannelPicker(viewer, self._refresh_cost)
        self.first_stage = FirstStagePicker(viewer, self._refresh_cost)
        self.first_stage_row: Container[Widget] = Container(widgets=[self.first_stage], labels=True)
        self.first_stage_row.margins = (0, 0, 0, 0)
        self.part = PartPicker(viewer, self._refresh_cost)
        self.result = ResultPicker(viewer)
        self.session = SessionPicker(viewer, self._to_save)
        self.run_options = RunOptions(self.model.details, self._refresh_cost)
        super().__init__(
            widgets=[
                self.model,
                self.channels,
                self.channels.note,
                self.first_stage_row,
                self.part,
                self.result,
                self.run_options,
                self.cost,
                self.run_button,
                self.queue_button,
                self.queue_button.note,
                self.keep_button,
                self.uncertainty_button,
                self.progress,
                self.status,
                self.session,
            ],
            labels=False,
        )
        self.status.native.setWordWrap(True)
        self.native.layout().addStretch()
        self._ready = True
        self.run_button.clicked.connect(self._run_or_cancel)
        self.keep_button.clicked.connect(self._keep)
        self.queue_button.clicked.connect(self.run_in_background)
        self.native_parent_changed.connect(self._parent_changed)
        for choice in (self.result.layer, self.result.values):
            choice.changed.connect(self._forget_status)
        begin_with(read(), self.model, self.run_options)
        QThreadPool.globalInstance().start(prepare_colors)

    @property
    def running(self) -> bool:
        """Whether a run is active."""
        return self.live is not None and self.live.running

    def run(self) -> LiveRun | None:
        """Start a run with the present inputs, or resume the last run if it began with the same inputs.

        Returns
        -------
        LiveRun or None
            The active run. None if the inputs do not fit, which `status` and a notification explain.
        """
        if self.live is not None and self.live.running:
            return self.live
        try:
            inputs = self._now()
            if self.live is not None and inputs == self._inputs:
                image = self.channels.image_to_run()
                settings = self._settings(image)
                self.live.choose(settings.box, settings.cover)
                if not self.live.unfinished:  # the last result was delivered; the next has a new target
                    self.live.target = self._target(image)
            else:
                made = self._made()
                self._let_go()
                self.live, self._inputs = made, inputs
                made.progressed.connect(while_open(self, self._on_event))
                made.ended.connect(while_open(self, self._on_end))
                made.failed.connect(while_open(self, self._on_failure))
        except NNUNetCPUError as error:
            self._say(str(error), error=True)
            return None
        self.run_button.text = "Cancel"
        self.keep_button.visible = False
        self.progress.visible = True
        self.progress.max, self.progress.value = 0, 0
        self.status.value = StageStarted(Stage.PREPARE).text
        self.session.forget()
        self.live.start()
        remember(chosen(self.model, self.run_options))
        return self.live

    def run_in_background(self) -> LiveRun | None:
        """Start a background run with the present inputs; None if they do not fit."""
        try:
            made = self._made(priority=-1)
        except NNUNetCPUError as error:
            self._say(str(error), error=True)
            return None
        for end in (made.ended, made.failed):
            end.connect(while_open(self, self._list_saved_runs))
        self.queue_button.start(made)
        return made

    def cancel(self) -> None:
        """Stop the run before its next pass."""
        if self.live is not None and self.live.running:
            self.status.value = "cancelling …"
            self.live.cancel()

    def _made(self, priority: int = 0) -> LiveRun:
        """Make a run with the present inputs, without starting it."""
        if not self.model.models:
            raise ModelError(self.model.problem)
        image, spacing = self.channels.image_to_run(), self.channels.stated_spacing()
        layer, models = self.channels.boxes[0].value, self.model.models
        settings, first_stage = self._settings(image), self.first_stage.labels(image)
        given = None if first_stage is None else image.from_labels(first_stage, 0)
        request = CostRequest(image, spacing, models, (settings,), given)
        request.check()
        layers, target = self._layers(), self._target(image)
        return LiveRun(
            self._viewer, layer, image, models, settings, spacing, first_stage,
            folder=partial(folder_for, request), target=target, priority=priority,
            asked_for=lambda: (self._layers(), self.model.models) == (layers, models),
        )  # fmt: skip

    def _layers(self) -> list[Image | None]:
        """The chosen layer of each channel."""
        return [box.value for box in self.channels.boxes]

    def _settings(self, image: LayerImage, preset: str | None = None) -> Settings:
        """The settings from the run options, optionally with another preset, and with the box of the chosen part."""
        return replace(self.run_options.settings(preset), box=self.part.box(self.channels.boxes[0].value, image))

    def _target(self, image: LayerImage) -> MergeTarget | None:
        names = dict(self.model.models[0].labels.names)
        return self.result.target(self._viewer, image, names)

    def _to_save(self) -> Chosen:
        """The chosen image, model and spacing, for the session folder."""
        if self.model.model is None:
            raise ModelError(self.model.problem)
        return self.channels.image(), self.model.model, self.channels.stated_spacing()

    def _run_or_cancel(self) -> None:
        if self.running:
            self.cancel()
        else:
            self.run()

    def _keep(self) -> None:
        """Make a layer of the final labels; the run can still be resumed."""
        if self.live is not None and self.live.keep() is not None:
            self.keep_button.visible = False

    def _on_event(self, event: Event) -> None:
        if isinstance(event, TileDone):
            self.progress.max = event.total
            self.progress.value = event.done
        if self.live is not None and not self.live.cancelled:
            self.status.value = event.text

    def _on_end(self, labels: Labels | None) -> None:
        if labels is None or self.live is None or self.live.result is None:
            resumable = self.live is not None and self.live.unfinished
            left = "finished tiles are kept" if resumable else "nothing was added"
            self._say(f"cancelled after {self.progress.value} tiles; {left}", error=False)
            self.keep_button.visible = self.live is not None and self.live.preview.painted
        else:
            history = self.live.result.provenance
            self.uncertainty_button.show_uncertainty(self.live.uncertainty)
            seconds = sum(history["seconds"].values())
            done = f"done in {duration(seconds)} on {history['runs'][-1]['device']}"
            self._say("; ".join(filter(None, (done, self.live.remark))), error=False)
            if history["settings"]["box"] is None and not history["settings"]["cover"]:
                self.live = None  # to free the memory of its sums
        self._idle()

    def _on_failure(self, error: Exception) -> None:
        self._say(str(error) or type(error).__name__, error=True)
        self._idle()

    def _idle(self) -> None:
        self.progress.visible = False
        self._list_saved_runs()

    def _name_button(self) -> None:
        """Set the text of the run button."""
        if self.running:
            self.run_button.text = "Cancel"
        elif self.live is not None and self.live.unfinished and self._now() == self._inputs:
            self.run_button.text = "Continue"
        else:
            self.run_button.text = "Run"

    def _now(self) -> tuple[Any, ...]:
        """The inputs that must be the same to resume a run; its tiles may differ."""
        settings = replace(self.run_options.settings(), preset="exact", cover=False, box=None)
        layers = tuple(None if layer is None else state_of(layer) for layer in self._layers())
        choices = (self.channels.axes.value, self.channels.spacing.value, self.channels.time.value)
        stands = tuple(self._viewer.dims.current_step) if self.channels.time.value == "current" else ()
        first_stage = id(self.first_stage.layer)
        return layers, choices, stands if self.channels.time.visible else (), first_stage, self.model.models, settings

    def _all_inputs(self) -> tuple[Any, ...]:
        """All inputs that may prevent a run from starting."""
        part, result = self.part, self.result
        return self._now(), part.kind.value, part.bounds.value, result.layer.value, result.values.value

    def _forget_status(self, *_: Any) -> None:
        """Clear a status that was about other inputs."""
        if self.status.value and not self.running and self._all_inputs() != self._status_inputs:
            self.status.value = ""

    def _let_go(self) -> None:
        """Close the last run, because another one takes its place."""
        if self.live is not None:
            self.live.close()
        self.live = None
        self.keep_button.visible = False

    def _parent_changed(self, parent: Any) -> None:
        """Stop the runs of a closed panel, because nobody could see or stop them, and drop a request for costs."""
        if parent is None:
            self.cost.say("")
            runs, self.live = [self.live, *self.queue_button.runs], None
            for run in filter(None, runs):
                run.abandon()

    def _say(self, message: str, error: bool) -> None:
        self.status.value = message
        self._status_inputs = self._all_inputs()
        if error:
            show_error(message)

    def _model_changed(self) -> None:
        if self._ready and self.model.model is not None:
            self.channels.set_model(self.model.model)
        if self._ready:
            self.first_stage.set_models(self.model.models)
        self._refresh_cost()

    def _refresh_cost(self, *_: Any) -> None:
        """Request the cost of each preset for this image."""
        if not self._ready:
            return
        self._name_button()
        self._forget_status()
        image = self.channels.seen
        if image is None or not self.model.models:
            self.cost.say("")  # because the note of the channels or of the model explains the problem
            return
        try:
            settings = tuple(self._settings(image, preset) for preset in PRESETS)
            times = len(image.times) if self.channels.time.value == "all" else 1
            spacing, first_stage = self.channels.stated_spacing(), self.first_stage.outline(image)
            self.cost.show_costs(CostRequest(image, spacing, self.model.models, settings, first_stage, times))
        except NNUNetCPUError as error:
            self.cost.say(str(error))

    def _list_saved_runs(self, *_: Any) -> None:
        """List the saved runs again, because a run has ended."""
        self.cost.forget_saved_runs()
        self._refresh_cost()
