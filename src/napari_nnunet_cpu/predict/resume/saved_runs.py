"""List the saved runs in a folder, without their images."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from napari_nnunet_cpu.boxes import Triple
from napari_nnunet_cpu.predict.resume.run_file import LAYOUT, is_run_file


@dataclass(frozen=True, slots=True)
class SavedRun:
    """The description of a saved run. Whether it fits an image is found out when that image is run.

    Attributes
    ----------
    path : Path
        The run file.
    image : str
        Name of the case.
    shape : tuple of int
        Shape (Z, Y, X) of the case.
    model : str
        Name of the model and its configuration.
    weights_sha256 : str
        Hash of the weights.
    tiles_done : int
        Number of saved tiles.
    tiles : int
        Number of tiles in the grid.
    when : datetime
        Time of the last save.
    """

    path: Path
    image: str
    shape: Triple
    model: str
    weights_sha256: str
    tiles_done: int
    tiles: int
    when: datetime


def saved_runs(folder: Path) -> list[SavedRun]:
    """The runs in a folder that can be resumed, the latest first; runs that a process is computing are left out."""
    found = [run for path in folder.glob("*.run") if is_run_file(path) and (run := _read(path)) is not None]
    return sorted(found, key=lambda run: run.when, reverse=True)


class SavedRunList:
    """The saved runs of a folder, read again only after a file was added or removed."""

    def __init__(self) -> None:
        self._read_from: tuple[Path, int] | None = None
        self._runs: list[SavedRun] = []

    def in_folder(self, folder: Path) -> list[SavedRun]:
        """The result of `saved_runs`; for one thread at a time."""
        try:
            now = folder, folder.stat().st_mtime_ns
        except OSError:
            now = folder, 0
        if now != self._read_from:
            self._read_from, self._runs = now, saved_runs(folder)
        return self._runs


def _read(path: Path) -> SavedRun | None:
    """The description in a run file; None if it is in use, damaged, empty, or of another version."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, sqlite3.Error):
        when = datetime.fromtimestamp(path.stat().st_mtime)
        # Opened for writing, because SQLite first undoes the half-written save of a killed process.
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0)) as file:
            (layout,) = file.execute("PRAGMA user_version").fetchone()
            if layout != LAYOUT:
                return None
            (text,) = file.execute("SELECT about FROM run").fetchone()
            (done,) = file.execute("SELECT count(*) FROM tiles").fetchone()
        about = json.loads(text)
        z, y, x = about["shape"]
        names = about["image"], (z, y, x), about["model"], about["weights_sha256"]
        return SavedRun(path, *names, done, about["tiles"], when) if done else None
    return None
