"""Which model: a path, and what is found there."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import Container, FileEdit, Label, LineEdit, PushButton, Widget
from napari.qt.threading import create_worker

from napari_nnunet_cpu.errors import ModelError, SettingsError
from napari_nnunet_cpu.models import TrainedModel, load_model
from napari_nnunet_cpu.samples import NOT_FOR_MEDICAL_USE, sample_model
from napari_nnunet_cpu.settings import parse_folds
from napari_nnunet_cpu.viewer.worker import while_open

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
        self.info.value = text if model else escape(text)
        self._on_change()

    def _choose_zip(self) -> None:
        from qtpy.QtWidgets import QFileDialog

        chosen, _ = QFileDialog.getOpenFileName(self.native, "Exported nnU-Net model", "", "Exported model (*.zip)")
        if chosen:
            self.path.value = Path(chosen)

    def _choose_sample(self) -> None:
        self.path.value = sample_model()


def _load(path: Path, folds: tuple[str, ...] | None) -> TrainedModel:
    try:
        return load_model(path, folds=folds)
    except RuntimeError as error:  # would vanish in a Qt worker
        raise ModelError(f"{path} can't be read: {error}") from error


def _description(model: TrainedModel) -> str:
    patch = " × ".join(str(length) for length in model.configuration.patch_size)
    spacing = " × ".join(f"{length:g}" for length in model.configuration.spacing)
    labels = ", ".join(escape(name) for value, name in model.labels.names.items() if value)
    text = (
        f"<b>{escape(model.name)}</b> {model.configuration_name}, folds {', '.join(model.folds)}<br>"
        f"labels: {labels}<br>channels: {escape(', '.join(model.channel_names))}<br>"
        f"patch {patch}, spacing {spacing} mm"
    )
    return f"{text}<br><i>{NOT_FOR_MEDICAL_USE}</i>" if model.folder == sample_model() else text
