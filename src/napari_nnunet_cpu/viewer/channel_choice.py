"""Which image: a layer for every channel of the model, and the spacing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container, Label, LineEdit, Widget
from napari.layers import Image
from qtpy.compat import isalive

from napari_nnunet_cpu.errors import CaseError, NNUNetCPUError
from napari_nnunet_cpu.settings import parse_spacing
from napari_nnunet_cpu.viewer.layers import LayerImage, image_from_layers

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_nnunet_cpu.cases.case import Spacing

# What a layer tells when its shape or place changes.
_PLACE = ("scale", "units", "affine", "rotate", "shear", "data")


class ChannelChoice(Container[Widget]):
    """A box of image layers for every channel of the model, and the spacing of the image.

    Attributes
    ----------
    boxes : list of ComboBox
        One per channel, labelled with its name.
    spacing : LineEdit
        "Z, Y, X" in mm; what the layers say, or what the user types.
    note : Label
        Where the spacing comes from; placed by the widget.
    """

    def __init__(self, viewer: ViewerModel, on_change: Callable[[], None]) -> None:
        self._viewer = viewer
        self._on_change = on_change
        self._typed = False
        self._chosen: list[Image | None] = []
        self.boxes: list[ComboBox] = []
        self.box_area: Container[ComboBox] = Container(widgets=[], labels=True, label=" ")
        self.spacing = LineEdit(
            label="spacing (mm)", tooltip="Z, Y, X in millimetres; type another to override the layer"
        )
        self.note = Label(value="")
        super().__init__(widgets=[self.box_area, self.spacing], labels=True)
        self.margins = (0, 0, 0, 0)
        self.box_area.margins = (0, 0, 0, 0)
        self.note.native.setWordWrap(True)
        self.set_channels(("image",))
        self.spacing.native.textEdited.connect(self._user_typed)

    def set_channels(self, names: tuple[str, ...]) -> None:
        """Show one box per channel name, keeping or guessing sensible layers."""
        if [box.label for box in self.boxes] != list(names):
            self.box_area.clear()
            self.boxes = [
                ComboBox(label=name, name=f"channel{i}", choices=self._image_layers, nullable=False)
                for i, name in enumerate(names)
            ]
            self.box_area.extend(self.boxes)
            self._fill()
            for box in self.boxes:
                box.changed.connect(self._layer_changed)
        self._layer_changed()

    def image(self) -> LayerImage:
        """A snapshot of the chosen layers.

        Raises
        ------
        CaseError
            When they are not images of one grid.
        """
        layers = [box.value for box in self.boxes if box.value is not None]
        if layers and layers[0].rgb and all(layer is layers[0] for layer in layers):
            return image_from_layers(layers[:1])
        for number, layer in enumerate(layers):
            if layer in layers[:number]:
                raise CaseError(f"{layer.name} is chosen for more than one channel; choose a layer for each of them")
        return image_from_layers(layers)

    def stated_spacing(self) -> Spacing | None:
        """The spacing the user typed, or None where the layer's own holds.

        Raises
        ------
        SettingsError
            When it is not three positive numbers.
        """
        return parse_spacing(self.spacing.value) if self._typed else None

    def reset_choices(self, *_: Any) -> None:
        """Follow the viewer's layers; a box whose layer is gone takes the next."""
        had_layers = any(box.value is not None for box in self.boxes)
        super().reset_choices()
        if not had_layers:
            self._fill()
        self._layer_changed()

    def _fill(self) -> None:
        """Put the guessed layers into the boxes."""
        for box, layer in zip(self.boxes, self._guess([box.label for box in self.boxes]), strict=True):
            if layer is not None:
                box.value = layer

    def _image_layers(self, _: Any = None) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _guess(self, names: Sequence[str]) -> list[Image | None]:
        """Layers whose names hold the channel's name first; then the selected ones; then the others in order."""
        selected = [layer for layer in self._image_layers() if layer in self._viewer.layers.selection]
        left = [*selected, *(layer for layer in self._image_layers() if layer not in selected)]
        rgb = next((layer for layer in left if layer.rgb), None)
        if rgb is not None and len(names) == 3 and len(left) < 3:
            return [rgb] * 3
        found: dict[str, Image] = {}
        for name in sorted(names, key=len, reverse=True):
            # As a word of its own: T1 is not in "T1ce", nor CT in "reconstruction".
            word = re.compile(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", re.IGNORECASE)
            match = next((layer for layer in left if word.search(layer.name)), None)
            if match is not None:
                found[name] = match
                left.remove(match)
        return [found[name] if name in found else (left.pop(0) if left else None) for name in names]

    def _layer_changed(self, *_: Any) -> None:
        chosen = [box.value for box in self.boxes]
        if chosen != self._chosen:
            self._typed = False
            self._follow(chosen)
        if self._typed:
            self._on_change()
            return
        try:
            image = self.image()
        except NNUNetCPUError as error:
            self.spacing.value, self.note.value = "", str(error)
        else:
            self.spacing.value = ", ".join(f"{length:g}" for length in image.spacing_mm)
            self.note.value = image.spacing_source or "spacing unknown: 1 mm is assumed; type Z, Y, X in mm"
        self._on_change()

    def _follow(self, chosen: list[Image | None]) -> None:
        """Hear of changes of the chosen layers' place, and no longer of those chosen before."""
        for layers, connect in ((self._chosen, False), (chosen, True)):
            for layer in (layer for layer in layers if layer is not None):
                for name in _PLACE:
                    emitter = getattr(layer.events, name)
                    emitter.disconnect(self._layer_moved)
                    if connect:
                        emitter.connect(self._layer_moved)
        self._chosen = chosen

    def _layer_moved(self, _: Any) -> None:
        if isalive(self.native):
            self._layer_changed()

    def _user_typed(self, text: str) -> None:
        self._typed = bool(text.strip())
        if not self._typed:  # an empty box goes back to what the layer says
            self._layer_changed()
            return
        self.note.value = "as typed"
        self._on_change()
