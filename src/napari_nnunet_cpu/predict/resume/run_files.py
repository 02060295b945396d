"""The run files of a segmentation."""

from __future__ import annotations

from napari_nnunet_cpu.predict.resume.run_file import RunFile


class RunFiles:
    """Run files of one segmentation, also of finished runs, because their labels may only be in memory."""

    def __init__(self) -> None:
        self._files: list[RunFile] = []

    def add(self, file: RunFile) -> None:
        """Add the file of a run that begins."""
        self._files.append(file)

    @property
    def problem(self) -> str | None:
        """Why a run is not saved, for the user; None if there is no problem."""
        return next((file.problem for file in self._files if file.problem is not None), None)

    def close(self) -> None:
        """Unlock the files, so that other processes can resume the runs."""
        for file in self._files:
            file.close()

    def remove(self) -> None:
        """Remove the files, because the labels have reached the user."""
        for file in self._files:
            file.remove()
