"""Choose the image: a layer for every channel of the model, its axes, spacing and time points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container, Label, Widget
from napari.layers import Image
from qtpy.compat import isalive
from qtpy.QtCore import Qt

from napari_nnunet_cpu.cases import SpacingSource
from napari_nnunet_cpu.errors import CaseError, NNUNetCPUError
from napari_nnunet_cpu.models import REORIENTING_READERS, VOXEL_READERS
from napari_nnunet_cpu.settings import parse_spacing
from napari_nnunet_cpu.viewer.fields import TypedLine
from napari_nnunet_cpu.viewer.image import LayerImage, at_time, image_from_layers
from napari_nnunet_cpu.viewer.results import origin_of
from napari_nnunet_cpu.viewer.widget.channel_guess import guess_channels

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_nnunet_cpu.cases import Spacing
    from napari_nnunet_cpu.models import TrainedModel

# Events of a layer whose shape, position or metadata changed.
_PLACE = ("scale", "translate", "units", "affine", "rotate", "shear", "data", "axis_labels", "metadata")
_AXES_HELP = (
    "The layer's axes in their order: T (time), C (channel) and Z, Y, X of the files that the model was\n"
    "trained on, Z the slowest. If the order is wrong, type another, with a minus for an axis that runs\n"
    "backwards: X, Y, Z or -Z, Y, X. A wrong order swaps left and right.\n"
    "For a model that turns images to RAS first, type the body directions in which the axes run: S, A, R\n"
    "or I, P, L."
)


class ChannelPicker(Container[Widget]):
    """A combo box with image layers for every channel of the model, and lines for axes, spacing and time points.

    The layers are guessed anew whenever a layer is added, removed or renamed, until the user chooses a layer by hand
    or types axes or a spacing. For a model of one channel, the guess is the selected image.

    Attributes
    ----------
    boxes : list of ComboBox
        One per channel, labelled with its name. A layer with all channels is chosen in every box.
    axes : TypedLine
        "T, C, Z, Y, X", as found, guessed or typed.
    spacing : TypedLine
        "Z, Y, X" in mm, from the layers or as typed.
    time : ComboBox
        The time points to segment; visible for a time series.
    note : Label
        States where axes and spacing come from; placed by the widget.
    seen : LayerImage or None
        The snapshot of the last change, as `image` takes it; None where the layers are no image, as `note` says.
    """

    def __init__(self, viewer: ViewerModel, on_change: Callable[[], None]) -> None:
        self._viewer = viewer
        self._on_change = on_change
        self._model: TrainedModel | None = None
        self._chosen: list[Image | None] = []
        self._offered: list[tuple[Image, str]] = []
        self._guessing = False
        self._by_hand = False
        self.seen: LayerImage | None = None
        self.boxes: list[ComboBox] = []
        self.box_area: Container[ComboBox] = Container(widgets=[], labels=True, label=" ")
        self.axes = TypedLine("axes", _AXES_HELP, self._layer_changed)
        self.spacing = TypedLine(
            "spacing (mm)",
            "Z, Y, X in millimetres, as the axes are named above; type another to override the layer",
            self._layer_changed,
        )
        self.time = ComboBox(
            label="time",
            choices=[("the time point shown", "current"), ("all time points", "all")],
            value="current",
            visible=False,
        )
        self.note = Label(value="")
        super().__init__(widgets=[self.box_area, self.axes, self.spacing, self.time], labels=True)
        self.margins = (0, 0, 0, 0)
        self.box_area.margins = (0, 0, 0, 0)
        self.note.native.setWordWrap(True)
        self.note.native.setTextFormat(Qt.TextFormat.PlainText)
        self.time.changed.connect(lambda _: self._on_change())
        viewer.layers.selection.events.active.connect(self._selected)
        self.set_model(None)

    def set_model(self, model: TrainedModel | None) -> None:
        """Show one box per channel of the model, with the layers chosen before or guessed ones."""
        self._model = model
        names = ("image",) if model is None else model.channel_names
        if [box.label for box in self.boxes] != list(names):
            self.box_area.clear()
            self.boxes = [
                ComboBox(label=name, name=f"channel{i}", choices=self._image_layers, nullable=False)
                for i, name in enumerate(names)
            ]
            self.box_area.extend(self.boxes)
            self._by_hand = False
            for box in self.boxes:
                box.changed.connect(self._box_changed)
        self._fill()
        self._layer_changed()

    def image(self) -> LayerImage:
        """A snapshot of the chosen layers, with all time points.

        Raises `CaseError` if they do not share a grid, and `SettingsError` if they can't have the typed axes.
        """
        layers = [box.value for box in self.boxes if box.value is not None]
        if len(layers) < 2 or any(layer is not layers[0] for layer in layers):
            for number, layer in enumerate(layers):
                if layer in layers[:number]:
                    raise CaseError(
                        f"{layer.name} is chosen for more than one channel; choose a layer for each of them"
                    )
            return self._image(layers, self.axes.typed)
        image = self._image(layers[:1], self.axes.typed)
        if image.channels == 1:
            raise CaseError(
                f"{image.name} is chosen for every channel, but its axes {image.axes} have none for channels; "
                "choose a layer for each of them, or type C for its channel axis"
            )
        return image

    def image_to_run(self) -> LayerImage:
        """A snapshot of the chosen layers at the chosen time points.

        Raises the errors of `image`, and `CaseError` if the viewer shows none of the time points.
        """
        return at_time(self.image(), self.time.value, self._viewer, self.boxes[0].value)

    def stated_spacing(self) -> Spacing | None:
        """The spacing that the user typed; None if the layer's own applies.

        Raises `SettingsError` if the text is not one or three positive numbers.
        """
        typed = self.spacing.typed
        return None if typed is None else parse_spacing(typed)

    def reset_choices(self, *_: Any) -> None:
        """Follow the viewer's layers; a choice by hand stays until its layer is removed."""
        with self._own_choice():
            super().reset_choices()
        if any(layer is not None and layer not in self._viewer.layers for layer in self._chosen):
            self._by_hand = False
            self.axes.forget()
            self.spacing.forget()
        offered = [(layer, layer.name) for layer in self._image_layers()]
        if offered != self._offered:
            self._offered = offered
            self._fill()
        self._layer_changed()

    def _image(self, layers: Sequence[Image], axes: str | None = None) -> LayerImage:
        planar = self._model is not None and len(self._model.configuration.patch_size) == 2
        channels = 0 if self._model is None else len(self.boxes)
        return image_from_layers(layers, axes=axes, channels=channels, planar=planar)

    def _fill(self) -> None:
        """Put the guessed layers into the boxes."""
        if self._by_hand or self.axes.typed is not None or self.spacing.typed is not None:
            return
        offered = [layer for layer in self._image_layers() if origin_of(layer) is None]  # leaves uncertainty out
        guessed = guess_channels(
            [box.label for box in self.boxes],
            offered,
            [layer for layer in offered if layer in self._viewer.layers.selection],
            [layer for layer in self._chosen if layer in offered],
            self._holds_all,
        )
        with self._own_choice():
            for box, layer in zip(self.boxes, guessed, strict=True):
                if layer is not None and layer in box.choices:
                    box.value = layer

    @contextmanager
    def _own_choice(self) -> Iterator[None]:
        """Mark changes inside the block as guesses, not as choices of the user."""
        self._guessing = True
        try:
            yield
        finally:
            self._guessing = False

    def _box_changed(self, _: Any) -> None:
        if not self._guessing:
            self._by_hand = True
            self._layer_changed()

    def _selected(self, _: Any) -> None:
        """Follow the selected image if the model has one channel."""
        if isalive(self.native) and len(self.boxes) == 1:
            self._fill()
            if self.boxes[0].value not in self._chosen:
                self._layer_changed()

    def _image_layers(self, _: Any = None) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _holds_all(self, layer: Image) -> bool:
        """Whether one layer seems to have all channels of a model with several."""
        try:
            return 1 < len(self.boxes) == self._image([layer]).channels
        except NNUNetCPUError:
            return False

    def _layer_changed(self, *_: Any) -> None:
        chosen = [box.value for box in self.boxes]
        if chosen != self._chosen:
            self.axes.forget()
            self.spacing.forget()
            self._follow(chosen)
        self.seen = None
        try:
            self.seen = image = self.image()
        except NNUNetCPUError as error:
            self.axes.show_found("")
            self.spacing.show_found("")
            self.note.value = str(error)
        else:
            spacing, spacing_note = self._spacing_of(image)
            self.axes.show_found(str(image.axes))
            self.spacing.show_found(spacing)
            self.time.visible = len(image.times) > 1
            self.note.value = "\n".join([f"axes {self._axes_note(image)}", f"spacing {spacing_note}", *image.notes])
        self._on_change()

    def _axes_note(self, image: LayerImage) -> str:
        """Say where the axes come from, and whether the model needs directions instead."""
        reader = None if self._model is None else self._model.plans.image_reader_writer
        if reader not in REORIENTING_READERS or image.affine is not None:
            return image.axes_source
        directions = str(image.axes).translate(str.maketrans("ZYX", "SAR", "-"))
        return (
            f"{image.axes_source}, but this model turns images to RAS first ({reader}): "
            f"type the directions in which they run, as {directions}"
        )

    def _spacing_of(self, image: LayerImage) -> tuple[str, str]:
        """The image's spacing as the model sees it, and a note of where it comes from."""
        reader = None if self._model is None else self._model.plans.image_reader_writer
        # A plane keeps its own spacing, because nnU-Net's readers make up its thickness.
        seen = image.spacing_mm if reader is None or image.axes.planar else image.outline().seen_by(reader).spacing_mm
        shown = ", ".join(f"{length:g}" for length in seen)
        if self.spacing.typed is not None:
            return shown, "as typed"
        if reader in VOXEL_READERS and image.spacing_source is not SpacingSource.STATED:
            unused = "the layer's scale is not used" if image.spacing_note else "none is needed"
            return "1, 1, 1", (
                f"in voxels: this model was trained on voxels, not millimetres ({reader}): {unused}; "
                "type Z, Y, X to override"
            )
        return shown, image.spacing_note or "unknown: 1 mm is assumed; type Z, Y, X in mm"

    def _follow(self, chosen: list[Image | None]) -> None:
        """Listen to changes of the chosen layers instead of the previously chosen ones."""
        for layers, connect in ((self._chosen, False), (chosen, True)):
            for layer in {id(layer): layer for layer in layers if layer is not None}.values():
                for name in _PLACE:
                    emitter = getattr(layer.events, name)
                    emitter.disconnect(self._layer_moved)
                    if connect:
                        emitter.connect(self._layer_moved)
        self._chosen = chosen

    def _layer_moved(self, _: Any) -> None:
        if isalive(self.native):
            self._layer_changed()
