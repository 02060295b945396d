"""Save corrected labels in a session folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.types import FileDialogMode
from magicgui.widgets import Container, Label, PushButton, Widget
from napari.layers import Labels
from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from superqt.utils import create_worker

from napari_nnunet_cpu.errors import CaseError, NNUNetCPUError, OutputError, SettingsError
from napari_nnunet_cpu.viewer.fields import PathEdit
from napari_nnunet_cpu.viewer.results import origin_of, save_corrected
from napari_nnunet_cpu.viewer.run.worker import belong_to, while_open

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from napari_nnunet_cpu.cases import Spacing
    from napari_nnunet_cpu.models import TrainedModel
    from napari_nnunet_cpu.viewer.image import LayerImage

Chosen = tuple["LayerImage", "TrainedModel", "Spacing | None"]


class SessionPicker(Container[Widget]):
    """Saves the selected Labels layer with its image, for nnU-Net to train on.

    Image and model are the origin of the labels. For labels without a known origin, such as hand-painted ones,
    `chosen` gives the image, the model and the stated spacing.

    Attributes
    ----------
    folder : FileEdit
        The session folder: a raw dataset of nnU-Net, or an empty folder.
    save_button : PushButton
        Saves.
    note : Label
        The progress, result or error of the last save.
    """

    def __init__(self, viewer: ViewerModel, chosen: Callable[[], Chosen]) -> None:
        self._viewer = viewer
        self._chosen = chosen
        self.folder = PathEdit(
            label="session folder",
            mode=FileDialogMode.EXISTING_DIRECTORY,
            nullable=True,
            tooltip="a raw dataset of nnU-Net, DatasetXXX_Name: corrected labels are added to it, to train on next",
        )
        self.save_button = PushButton(text="Save corrected labels")
        self.note = Label(value="", visible=False)
        super().__init__(widgets=[self.folder, self.save_button, self.note], labels=True)
        self.margins = (0, 0, 0, 0)
        self.note.native.setWordWrap(True)
        self.note.native.setTextFormat(Qt.TextFormat.PlainText)
        self.save_button.clicked.connect(self.save)

    def save(self) -> None:
        """Save the selected Labels layer, in a thread because the files may be large."""
        try:
            if self.folder.value is None:
                raise SettingsError("no session folder is chosen: choose one, or an empty one to begin with")
            layer = self._viewer.layers.selection.active
            if not isinstance(layer, Labels):
                raise CaseError("no Labels layer is selected: select the corrected one in the list of layers")
            origin = origin_of(layer)
            image, model, spacing_mm = (
                self._chosen() if origin is None else (origin.image_now(), origin.model, origin.spacing_mm)
            )
        except NNUNetCPUError as error:
            self._failed(error)
            return
        self.save_button.enabled = False
        folder = Path(str(self.folder.value))
        self._say(f"saving {layer.name} …")
        worker = create_worker(
            _save,
            folder,
            layer,
            image,
            model,
            spacing_mm,
            _start_thread=False,
            _ignore_errors=True,
            _connect={
                "returned": while_open(
                    self, lambda names: self._say(f"saved {layer.name} as {', '.join(names)} in {folder}")
                ),
                "errored": while_open(self, self._failed),
                "finished": while_open(self, self._ready),
            },
        )
        belong_to(self._viewer, worker, f"saving {layer.name}", worker.quit)
        worker.start()

    def forget(self) -> None:
        """Clear the note, unless a save is in progress."""
        if self.save_button.enabled:
            self._say("")

    def _ready(self) -> None:
        self.save_button.enabled = True

    def _failed(self, error: Exception) -> None:
        self._say(str(error))
        show_error(str(error))

    def _say(self, text: str) -> None:
        self.note.value = text
        self.note.visible = bool(text)


def _save(
    folder: Path, layer: Labels, image: LayerImage, model: TrainedModel, spacing_mm: Spacing | None
) -> tuple[str, ...]:
    try:
        return save_corrected(folder, layer, image, model, spacing_mm)
    except RuntimeError as error:  # because a Qt worker would swallow it
        raise OutputError(f"{folder}: the labels can't be saved: {error}") from error
