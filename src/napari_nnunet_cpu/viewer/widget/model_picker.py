"""Choose the model, or several models to average: a path, and the models at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, Container, Label, LineEdit, PushButton, Select, Widget
from superqt.utils import create_worker

from napari_nnunet_cpu.errors import ModelError, SettingsError
from napari_nnunet_cpu.models import CHECKPOINTS, TrainedModel, available_models, load_model, members_of
from napari_nnunet_cpu.samples import NOT_FOR_MEDICAL_USE, sample_model
from napari_nnunet_cpu.settings import AUTO_FOLDS, parse_folds
from napari_nnunet_cpu.viewer.fields import PathEdit
from napari_nnunet_cpu.viewer.run.worker import while_open

_NO_MODEL = "Choose a model folder, a fold folder or an exported zip."
_FOLDS = "auto: every numbered fold, or fold_all where there are none; all: fold_all; or numbers with commas: 0,1,2"
_SEVERAL = "several models: choose one, or more than one (Ctrl) to average them"


class ModelPicker(Container[Widget]):
    """The path of a model, its folds, and a description of the model.

    Attributes
    ----------
    path : PathEdit
        Folder or zip.
    found : Select
        The models at the path, shown if there are several. Choosing more than one makes an ensemble.
    also : PathEdit
        A further folder or zip whose model is averaged with the first. `details` hold it, the folds and the
        checkpoint; the widget shows them under "Advanced".
    folds : LineEdit
        "auto", "all", or numbers with commas.
    checkpoint : ComboBox
        The file in the fold folders.
    info : Label
        A description of the model, or why it can't be used.
    chosen : tuple of Path
        Folders of the models chosen in `found`; empty without a choice.
    models : tuple of TrainedModel
        The model, or the members of an ensemble; empty until they are loaded.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        mode = FileDialogMode.EXISTING_DIRECTORY
        self.path = PathEdit(label="model", mode=mode, nullable=True, value=None, tooltip=_NO_MODEL)
        self.zip_button = PushButton(text="Zip…", tooltip="Choose an exported model")
        self.sample_button = PushButton(
            text="Sample", tooltip=f"Grey and white matter of a T1 head. {NOT_FOR_MEDICAL_USE}"
        )
        self.chosen: tuple[Path, ...] = ()
        self._offered: list[tuple[str, Path]] = []
        # A function, because magicgui resets the choices whenever layers change, and a list would reset the value.
        self.found = Select(label="of these", choices=lambda _: self._offered, tooltip=_SEVERAL, visible=False)
        self.also = PathEdit(
            label="average with", mode=mode, nullable=True, value=None, tooltip="Another model: an ensemble of both"
        )
        self.folds = LineEdit(label="folds", value=AUTO_FOLDS, tooltip=_FOLDS)
        self.checkpoint = ComboBox(label="checkpoint", choices=CHECKPOINTS, value=CHECKPOINTS[0])
        self.details = (self.also, self.folds, self.checkpoint)
        self.info = Label(value=_NO_MODEL)
        self.models: tuple[TrainedModel, ...] = ()
        self.problem = _NO_MODEL
        self._on_change = on_change
        self._request = 0
        others = Container(widgets=[self.zip_button, self.sample_button], layout="horizontal", labels=False, label="or")
        super().__init__(widgets=[self.path, others, self.found, self.info], labels=True)
        self.margins = (0, 0, 0, 0)
        others.margins = (0, 0, 0, 0)
        self.info.native.setWordWrap(True)
        for widget in (self.path, self.found, *self.details):
            widget.changed.connect(self.read)
        self.zip_button.clicked.connect(self._choose_zip)
        self.sample_button.clicked.connect(self._choose_sample)

    @property
    def model(self) -> TrainedModel | None:
        """The first of `models`; the members of an ensemble have the same channels and labels."""
        return self.models[0] if self.models else None

    def read(self) -> None:
        """Load the model in a thread, then update `models` and `info` and call `on_change`."""
        self._request += 1
        request = self._request
        boxes: list[Any] = [self.path.value, self.also.value]
        chosen = ["" if value is None else str(value) for value in boxes]
        if chosen[0] in ("", "."):
            self._show((), _NO_MODEL)
            return
        paths = [Path(path) for path in chosen if path not in ("", ".")]
        try:
            folds = parse_folds(self.folds.value)
        except SettingsError as error:
            self._show((), str(error))
            return
        self._show((), f"reading {' and '.join(path.name for path in paths)} …")

        def done(found: _Found) -> None:
            if request == self._request:
                self._offer(found)
                self._show(found.models, _description(found.models) if found.models else _SEVERAL)

        def failed(error: Exception) -> None:
            if request == self._request:
                self._show((), str(error))

        create_worker(
            _look,
            paths,
            tuple(self.found.value or ()),
            folds,
            self.checkpoint.value,
            _connect={"returned": while_open(self, done), "errored": while_open(self, failed)},
        )

    def take(self, models: tuple[TrainedModel, ...]) -> None:
        """Take models that are loaded already, without a path."""
        self._request += 1
        self._show(models, _description(models))

    def begin_with(
        self, path: Path | None, chosen: tuple[Path, ...], also: Path | None, folds: str, checkpoint: str
    ) -> None:
        """Fill in all fields at once; `chosen` are the models to take if `path` holds several.

        If a file no longer exists, `info` says so, as for any other path.
        """
        self._offer(_Found(chosen, chosen, False, ()))
        self.also.value, self.folds.value, self.checkpoint.value = also, folds, checkpoint
        self.path.value = path  # last, so that the model is read once

    def _offer(self, found: _Found) -> None:
        """Offer the models at the path; a choice is kept while these stay the same."""
        self._offered = list(zip(found.names(), found.folders, strict=True))
        with self.found.changed.blocked():
            self.found.reset_choices()
            self.found.value = list(found.chosen)
        self.found.visible = found.choice
        self.chosen = found.chosen if found.choice else ()

    def _show(self, models: tuple[TrainedModel, ...], text: str) -> None:
        self.models = models
        self.problem = "" if models else text
        self.info.value = text if models else escape(text)
        self._on_change()

    def _choose_zip(self) -> None:
        from qtpy.QtWidgets import QFileDialog

        chosen, _ = QFileDialog.getOpenFileName(self.native, "Exported nnU-Net model", "", "Exported model (*.zip)")
        if chosen:
            self.path.value = Path(chosen)

    def _choose_sample(self) -> None:
        self.path.value = sample_model()


@dataclass(frozen=True)
class _Found:
    """The model folders at the paths, the chosen ones, and their models.

    `choice` says whether a path holds several models, so that the user must choose.
    """

    folders: tuple[Path, ...]
    chosen: tuple[Path, ...]
    choice: bool
    models: tuple[TrainedModel, ...]

    def names(self) -> list[str]:
        """Names of the folders: the configuration if it is unique, else the whole path."""
        short = [folder.name.split("__")[-1] for folder in self.folders]
        return short if len(set(short)) == len(short) else [str(folder) for folder in self.folders]


def _look(paths: Sequence[Path], chosen: tuple[Path, ...], folds: str | tuple[str, ...], checkpoint: str) -> _Found:
    try:
        at_path = [available_models(path) for path in paths]
        folders = tuple(dict.fromkeys(folder for folders in at_path for folder in folders))
        choice = any(len(folders) > 1 for folders in at_path)
        wanted = tuple(folder for folder in folders if folder in chosen) if choice else folders
        models = tuple(load_model(folder, folds=folds, checkpoint=checkpoint) for folder in wanted)
        return _Found(folders, wanted, choice, members_of(models) if models else ())
    except RuntimeError as error:  # because a Qt worker would swallow it
        raise ModelError(f"{paths[0]} can't be read: {error}") from error


def _description(models: tuple[TrainedModel, ...]) -> str:
    first = models[0]
    labels = ", ".join(escape(name) for value, name in first.labels.names.items() if value)
    text = (
        f"{'<br>'.join(map(_network, models))}<br>"
        f"labels: {labels}<br>channels: {escape(', '.join(first.channel_names))}"
    )
    return f"{text}<br><i>{NOT_FOR_MEDICAL_USE}</i>" if first.folder == sample_model() else text


def _folds(model: TrainedModel) -> str:
    return escape(f"folds {', '.join(model.folds)} ({model.checkpoints[0].name})")


def _network(model: TrainedModel) -> str:
    patch = " × ".join(str(length) for length in model.configuration.patch_size)
    spacing = " × ".join(f"{length:g}" for length in model.configuration.spacing)
    text = f"<b>{escape(model.name)}</b> {escape(model.configuration_name)}, {_folds(model)}"
    if model.cascade:
        before = model.configuration.previous_stage or ""
        found = "found beside it, runs first" if model.first_stage else "not found: choose its labels"
        text += f", after {escape(before)} ({found})"
    notices = [f"<br><b>Notice:</b> {escape(stage.notice)}" for stage in model.stages if stage.notice is not None]
    return f"{text}<br>patch {patch}, spacing {spacing} mm{''.join(notices)}"
