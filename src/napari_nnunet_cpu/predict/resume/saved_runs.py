"""Which runs were saved and not finished, found without an image at hand."""

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
    """What a file says of its run. Whether it fits an image, only a run of that image finds out.

    Attributes
    ----------
    path : Path
        The file.
    image : str
        Name of the case.
    shape : tuple of int
        Of the case (Z, Y, X).
    model : str
        Name of the model, and of its configuration.
    weights_sha256 : str
        Hash of its weights.
    tiles_done : int
        That are saved.
    tiles : int
        Of the whole grid.
    when : datetime
        Of the last save.
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
    """The runs that can be taken up, the last one first. Those that go on in some process are left out.

    Parameters
    ----------
    folder : Path
        Of `Run`; it need not be there.
    """
    found = [run for path in folder.glob("*.run") if is_run_file(path) and (run := _read(path)) is not None]
    return sorted(found, key=lambda run: run.when, reverse=True)


def _read(path: Path) -> SavedRun | None:
    """What a file says; None where it is in use, damaged, empty, or of another version."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, sqlite3.Error):
        when = datetime.fromtimestamp(path.stat().st_mtime)
        # Writable, since what a killed process left half-written is taken back first.
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
