"""The widget's inputs: the model, the image layers of its channels, and the options of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.types import FileDialogMode
from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    FloatSpinBox,
    Label,
    LineEdit,
    PushButton,
    SpinBox,
    Widget,
)
from napari.layers import Image
from napari.qt.threading import create_worker

from napari_nnunet_cpu.errors import CaseError, ModelError, NNUNetCPUError, SettingsError
from napari_nnunet_cpu.models import TrainedModel, load_model
from napari_nnunet_cpu.resources import usable_cores
from napari_nnunet_cpu.samples import NOT_FOR_MEDICAL_USE, sample_model
from napari_nnunet_cpu.settings import PRESETS, Settings, parse_folds, parse_spacing
from napari_nnunet_cpu.viewer.layers import LayerImage, image_from_layers
from napari_nnunet_cpu.viewer.worker import while_open

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_nnunet_cpu.cases.case import Spacing

_NO_MODEL = "Choose a model folder, a fold folder or an exported zip."


class ModelChoice(Container[Widget]):
    """Path, folds and what is found there.

    Attributes
    ----------
    path : FileEdit
        Folder or zip.
    folds : LineEdit
        "all", or numbers with commas. Shown by the widget under "Advanced".
    info : Label
        What the model is, or why it can't be used.
    model : TrainedModel or None
        The model, once it is read.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.path = FileEdit(
            label="model", mode=FileDialogMode.EXISTING_DIRECTORY, nullable=True, value=None, tooltip=_NO_MODEL
        )
        self.zip_button = PushButton(text="Zip…", tooltip="Choose an exported model")
        self.sample_button = PushButton(
            text="Sample", tooltip=f"Grey and white matter of a T1 head. {NOT_FOR_MEDICAL_USE}"
        )
        self.folds = LineEdit(label="folds", value="all", tooltip="all, or numbers with commas: 0,1,2")
        self.info = Label(value=_NO_MODEL)
        self.model: TrainedModel | None = None
        self.problem = _NO_MODEL
        self._on_change = on_change
        self._request = 0
        others = Container(widgets=[self.zip_button, self.sample_button], layout="horizontal", labels=False, label="or")
        super().__init__(widgets=[self.path, others, self.info], labels=True)
        self.margins = (0, 0, 0, 0)
        others.margins = (0, 0, 0, 0)
        self.info.native.setWordWrap(True)
        self.path.changed.connect(self.read)
        self.folds.changed.connect(self.read)
        self.zip_button.clicked.connect(self._choose_zip)
        self.sample_button.clicked.connect(self._choose_sample)

    def read(self) -> None:
        """Read the model in a thread; `model` and `info` follow, and `on_change` is called."""
        self._request += 1
        request = self._request
        path: Any = self.path.value
        if path is None or str(path) in ("", "."):
            self._show(None, _NO_MODEL)
            return
        try:
            folds = parse_folds(self.folds.value)
        except SettingsError as error:
            self._show(None, str(error))
            return
        self._show(None, f"reading {Path(path).name} …")

        def done(model: TrainedModel) -> None:
            if request == self._request:
                self._show(model, _description(model))

        def failed(error: Exception) -> None:
            if request == self._request:
                self._show(None, str(error))

        create_worker(
            _load, path, folds, _connect={"returned": while_open(self, done), "errored": while_open(self, failed)}
        )

    def _show(self, model: TrainedModel | None, text: str) -> None:
        self.model = model
        self.problem = "" if model else text
        self.info.value = text
        self._on_change()

    def _choose_zip(self) -> None:
        from qtpy.QtWidgets import QFileDialog

        chosen, _ = QFileDialog.getOpenFileName(self.native, "Exported nnU-Net model", "", "Exported model (*.zip)")
        if chosen:
            self.path.value = Path(chosen)

    def _choose_sample(self) -> None:
        self.path.value = sample_model()


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
            for box, layer in zip(self.boxes, self._guess(names), strict=True):
                if layer is not None:
                    box.value = layer
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
            for box, layer in zip(self.boxes, self._guess([box.label for box in self.boxes]), strict=True):
                if layer is not None:
                    box.value = layer
        self._layer_changed()

    def _image_layers(self, _: Any = None) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _guess(self, names: Any) -> list[Image | None]:
        """Layers whose names hold the channel's name first; then the selected ones; then the others in order."""
        selected = [layer for layer in self._image_layers() if layer in self._viewer.layers.selection]
        left = [*selected, *(layer for layer in self._image_layers() if layer not in selected)]
        rgb = next((layer for layer in left if layer.rgb), None)
        if rgb is not None and len(names) == 3 and len(left) < 3:
            return [rgb] * 3
        guess: list[Image | None] = []
        for name in names:
            match = next((layer for layer in left if str(name).lower() in layer.name.lower()), None)
            guess.append(match)
            if match is not None:
                left.remove(match)
        return [layer if layer is not None else (left.pop(0) if left else None) for layer in guess]

    def _layer_changed(self, *_: Any) -> None:
        chosen = [box.value for box in self.boxes]
        self._typed = self._typed and chosen == self._chosen
        self._chosen = chosen
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

    def _user_typed(self, *_: Any) -> None:
        self._typed = True
        self.note.value = "as typed"
        self._on_change()


class RunOptions(Container[Widget]):
    """Device, preset and, under "Advanced", everything else.

    Attributes
    ----------
    device, preset, step, mirror, threads : magicgui widgets
        See `Settings`.
    advanced : CheckBox
        Shows the rest.
    """

    def __init__(self, folds: LineEdit, on_change: Callable[[], None]) -> None:
        cores = usable_cores()
        self.device = ComboBox(label="device", choices=[("CPU", "cpu")], value="cpu")
        self.preset = ComboBox(label="preset", choices=list(PRESETS), value="fast", tooltip=_PRESET_HELP)
        self.advanced = CheckBox(text="Advanced", value=False)
        self.step = FloatSpinBox(label="step", value=0.5, min=0.1, max=1.0, step=0.1, tooltip="share of the patch")
        self.mirror = ComboBox(
            label="mirroring", choices=[("as the preset", None), ("on", True), ("off", False)], value=None
        )
        # One core is left to the window where there are enough of them.
        self.threads = SpinBox(label="threads", value=cores - 1 if cores >= 4 else cores, min=1, max=max(cores, 1))
        self.details: Container[Widget] = Container(
            widgets=[folds, self.step, self.mirror, self.threads], labels=True, label=" "
        )
        super().__init__(widgets=[self.device, self.preset, self.advanced, self.details], labels=True)
        self.margins = (0, 0, 0, 0)
        self.details.margins = (0, 0, 0, 0)
        self.details.visible = False
        self.advanced.changed.connect(self._show_details)
        for widget in (self.preset, self.step, self.mirror):
            widget.changed.connect(on_change)
        create_worker(_device_choices, _connect={"returned": while_open(self, self._set_devices)})

    def settings(self, preset: str | None = None) -> Settings:
        """The settings of a run; with another preset when one is named."""
        return Settings.from_preset(
            preset or self.preset.value,
            device=self.device.value,
            step=self.step.value,
            mirror=self.mirror.value,
            threads=self.threads.value,
        )

    def _show_details(self, shown: bool) -> None:
        self.details.visible = shown

    def _set_devices(self, choices: list[tuple[str, str]]) -> None:
        self.device.choices = choices


_PRESET_HELP = (
    "exact: nnU-Net's labels, mirroring as the model allows\n"
    "fast: the same tiles without mirroring\n"
    "draft: only as many tiles as cover the image"
)


def _load(path: Path, folds: tuple[str, ...] | None) -> TrainedModel:
    try:
        return load_model(path, folds=folds)
    except RuntimeError as error:  # would vanish in a Qt worker
        raise ModelError(f"{path} can't be read: {error}") from error


def _device_choices() -> list[tuple[str, str]]:
    """Devices for the box, found in a thread because torch takes seconds to import."""
    from napari_nnunet_cpu.engines import available_devices

    return [(device.label, device.name) for device in available_devices()]


def _description(model: TrainedModel) -> str:
    patch = " × ".join(str(length) for length in model.configuration.patch_size)
    spacing = " × ".join(f"{length:g}" for length in model.configuration.spacing)
    labels = ", ".join(name for value, name in model.labels.names.items() if value)
    text = (
        f"<b>{model.name}</b> {model.configuration_name}, folds {', '.join(model.folds)}<br>"
        f"labels: {labels}<br>channels: {', '.join(model.channel_names)}<br>"
        f"patch {patch}, spacing {spacing} mm"
    )
    return f"{text}<br><i>{NOT_FOR_MEDICAL_USE}</i>" if model.folder == sample_model() else text
