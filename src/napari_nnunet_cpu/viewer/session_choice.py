"""Saving corrected labels: the folder of the session, and a button."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.types import FileDialogMode
from magicgui.widgets import Container, FileEdit, PushButton, Widget
from napari.layers import Labels
from napari.qt.threading import create_worker

from napari_nnunet_cpu.errors import CaseError, NNUNetCPUError, OutputError, SettingsError
from napari_nnunet_cpu.viewer.session_folder import save_corrected
from napari_nnunet_cpu.viewer.worker import while_open

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from napari_nnunet_cpu.cases.case import Spacing
    from napari_nnunet_cpu.models import TrainedModel
    from napari_nnunet_cpu.viewer.layers import LayerImage

Chosen = tuple["LayerImage", "TrainedModel", "Spacing | None"]


class SessionChoice(Container[Widget]):
    """Saves the selected Labels layer with the chosen image, for nnU-Net to train on.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose selected layer is saved.
    chosen : callable
        Gives the image, the model and the stated spacing; raises `NNUNetCPUError` where something is missing.
    tell : callable
        Takes what is to be told, and whether it is an error.

    Attributes
    ----------
    folder : FileEdit
        An nnU-Net raw dataset, or where one is begun.
    save_button : PushButton
        Saves.
    """

    def __init__(self, viewer: ViewerModel, chosen: Callable[[], Chosen], tell: Callable[[str, bool], None]) -> None:
        self._viewer = viewer
        self._chosen = chosen
        self._tell = tell
        self.folder = FileEdit(
            label="session folder",
            mode=FileDialogMode.EXISTING_DIRECTORY,
            nullable=True,
            tooltip="a raw dataset of nnU-Net, DatasetXXX_Name: corrected labels are added to it, to train on next",
        )
        self.save_button = PushButton(text="Save corrected labels")
        super().__init__(widgets=[self.folder, self.save_button], labels=True)
        self.margins = (0, 0, 0, 0)
        self.save_button.clicked.connect(self.save)

    def save(self) -> None:
        """Save the selected Labels layer, in a thread: the files may be large."""
        try:
            if self.folder.value is None:
                raise SettingsError("no session folder is chosen: choose one, or an empty one to begin with")
            layer = self._viewer.layers.selection.active
            if not isinstance(layer, Labels):
                raise CaseError("no Labels layer is selected: select the corrected one in the list of layers")
            image, model, spacing_mm = self._chosen()
        except NNUNetCPUError as error:
            self._tell(str(error), True)
            return
        self.save_button.enabled = False
        folder = Path(str(self.folder.value))
        create_worker(
            _save,
            folder,
            layer,
            image,
            model,
            spacing_mm,
            _ignore_errors=True,
            _connect={
                "returned": while_open(self, lambda names: self._tell(f"saved {', '.join(names)} in {folder}", False)),
                "errored": while_open(self, lambda error: self._tell(str(error), True)),
                "finished": while_open(self, self._ready),
            },
        )

    def _ready(self) -> None:
        self.save_button.enabled = True


def _save(
    folder: Path, layer: Labels, image: LayerImage, model: TrainedModel, spacing_mm: Spacing | None
) -> tuple[str, ...]:
    try:
        return save_corrected(folder, layer, image, model, spacing_mm)
    except RuntimeError as error:  # would vanish in a Qt worker
        raise OutputError(f"{folder}: the labels can't be saved: {error}") from error
