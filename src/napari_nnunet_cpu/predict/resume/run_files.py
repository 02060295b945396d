"""The files that the runs of a segmentation are saved in."""

from __future__ import annotations

from napari_nnunet_cpu.predict.resume.run_file import RunFile


class RunFiles:
    """Run files of one segmentation, those of finished runs included, because their labels may only be in memory."""

    def __init__(self) -> None:
        self._files: list[RunFile] = []

    def add(self, file: RunFile) -> None:
        """Add the file of a run that begins."""
        self._files.append(file)

    @property
    def problem(self) -> str | None:
        """Why a run is no longer saved, for the user; None if all are saved, or none was to be."""
        return next((file.problem for file in self._files if file.problem is not None), None)

    def close(self) -> None:
        """Unlock the files, so that other runs may resume from them."""
        for file in self._files:
            file.close()

    def remove(self) -> None:
        """Remove the files, because the labels have reached the user."""
        for file in self._files:
            file.remove()
