"""Where a run keeps what is computed while it goes on: one database file per run, in a folder that may hold many.

SQLite writes all of a save or nothing, whenever the process ends, and a full disk leaves the last save as it was.
Against the end of the machine itself there is a checksum over everything, without which each save would have to
wait for the disk.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import sys
import time
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.json_cache import hash_of
from napari_nnunet_cpu.predict.resume.checksums import check_of, checks_of, checksum_of

Array = npt.NDArray[Any]
_Write = Callable[[str, tuple[Any, ...]], object]  # executes a statement with its values

MARK = 0x6E6E5543  # SQLite's application_id, by which a file is known to be ours
LAYOUT = 2  # of the tables below; a file of another one is begun anew
_TABLES = """
CREATE TABLE run (identity TEXT NOT NULL, about TEXT NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE tiles (number INTEGER PRIMARY KEY);
CREATE TABLE labels (box TEXT PRIMARY KEY, dtype TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE sums (box TEXT NOT NULL, head INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (box, head));
"""
# What another process may be the reason of, or the disk: a file that can't be used now may be well all the same.
_NO_FAULT_OF_THE_FILE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
_WAIT_SECONDS = 0.5  # for somebody who just looks what is there
_OLD_SECONDS = 30 * 24 * 3600.0
_NAME = re.compile(r"[0-9a-f]{16}\.run")
_ENDINGS = ("", "-journal")


class RunFile:
    """The file of one run. Where it can't be opened or written the run goes on without being saved.

    It is locked against other processes until it is closed. One thread at a time may use it. Files of runs that
    nobody went on with for 30 days are removed from the folder.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    identity : mapping
        Plain values on which all that is saved depends. The file is named by their hash and holds them.

    Attributes
    ----------
    path : Path
        The file.
    problem : str or None
        Why nothing is saved, for people; None while all is well.
    tiles : frozenset of int
        Indices of the tiles that were saved when it was opened.
    about : dict
        What was last told to `describe`; empty where it was begun now.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.path = folder / f"{hash_of(identity)[:16]}.run"
        self.problem: str | None = None
        self.tiles: frozenset[int] = frozenset()
        self.about: dict[str, Any] = {}
        self._database: sqlite3.Connection | None = None
        self._checks: dict[tuple[str, str], int] = {}  # checksums of what is saved, by its table and key
        document = json.dumps(identity, sort_keys=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_old(folder, self.path)
            try:
                self._open(document)
            except (sqlite3.Error, TypeError, ValueError) as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NO_FAULT_OF_THE_FILE:
                    raise
                _delete(self.path)
                self._open(document)
        except (OSError, TypeError, ValueError, sqlite3.Error) as error:
            self._give_up(error)

    @property
    def has_labels(self) -> bool:
        """Whether labels are saved, and the sums that they were made of may be gone."""
        return any(table == "labels" for table, _ in self._checks)

    def describe(self, about: Mapping[str, Any]) -> None:
        """Keep plain values that say what the run is, for those who look what is there."""
        self.about = dict(about)
        self._write(lambda write: write("UPDATE run SET about = ?", (json.dumps(self.about),)))

    def labels(self) -> Iterator[tuple[Box, Array]]:
        """Boxes of labels that need no tile any more, shape (Z, Y, X) each."""
        for text, dtype, data in self._rows("SELECT box, dtype, data FROM labels ORDER BY rowid"):
            box = Box.parse(text)
            yield box, np.frombuffer(zlib.decompress(data), dtype).reshape(box.shape)

    def sums(self) -> Iterator[tuple[Box, npt.NDArray[np.float32]]]:
        """Blocks of the padded image, first rows first: (heads + 1, Z, Y, X), the weights last."""
        for box in sorted(Box.parse(text) for table, text in self._checks if table == "sums"):
            heads = self._rows("SELECT data FROM sums WHERE box = ? ORDER BY head", (str(box),))
            yield box, np.stack([np.frombuffer(data, np.float32).reshape(box.shape) for (data,) in heads])

    def save(
        self,
        tiles: Iterable[int],
        labels: Iterable[tuple[Box, Array]],
        sums: Iterable[tuple[Box, npt.NDArray[np.float32]]],
        gone: Iterable[Box],
    ) -> bool:
        """Add to what is saved: all of this or nothing.

        Parameters
        ----------
        tiles : iterable of int
            Indices of tiles.
        labels : iterable
            Boxes and their labels (Z, Y, X).
        sums : iterable
            Blocks and their sums (heads + 1, Z, Y, X), in place of those that were saved for them.
        gone : iterable of tuple
            Blocks to remove.

        Returns
        -------
        bool
            Whether it is saved; if not, `problem` says why, and nothing will be any more.
        """
        checks = dict(self._checks)

        def changes(write: _Write) -> None:
            for number in tiles:
                write("INSERT OR IGNORE INTO tiles VALUES (?)", (number,))
                checks["tiles", str(number)] = check_of("tiles", number)
            for box, array in labels:
                key, dtype, data = str(box), array.dtype.str, zlib.compress(np.ascontiguousarray(array).data, 1)
                write("INSERT OR REPLACE INTO labels VALUES (?, ?, ?)", (key, dtype, data))
                checks["labels", key] = check_of("labels", key, dtype, data=data)
            for box, block in sums:
                key, check = str(box), 0
                for head, array in enumerate(block):
                    values = np.ascontiguousarray(array, np.float32).data
                    write("INSERT OR REPLACE INTO sums VALUES (?, ?, ?)", (key, head, values))
                    check ^= check_of("sums", key, head, data=values)
                checks["sums", key] = check
            for key in map(str, gone):
                write("DELETE FROM sums WHERE box = ?", (key,))
                checks.pop(("sums", key), None)
            write("UPDATE run SET checksum = ?", (checksum_of(checks),))

        saved = self._write(changes)
        if saved:
            self._checks = checks
        return saved

    def discard(self) -> None:
        """Forget what was saved, and begin anew."""
        nothing: dict[tuple[str, str], int] = {}

        def changes(write: _Write) -> None:
            for table in ("tiles", "labels", "sums"):
                write(f"DELETE FROM {table}", ())
            write("UPDATE run SET checksum = ?", (checksum_of(nothing),))

        self._write(changes)
        self.tiles, self._checks = frozenset(), nothing

    def remove(self) -> None:
        """Delete the file: the run is finished, and its labels are where they should be."""
        self._checks = {}
        self.close()

    def close(self) -> None:
        """Let other processes have it; nothing can be saved any more. A file with nothing in it is removed."""
        if self._database is not None:
            if not self._checks:
                _delete(self.path)  # while it is locked, so that it is ours
            self._database.close()
            if not self._checks and sys.platform == "win32":  # which keeps open files
                _delete(self.path)
        self._database = None

    def _open(self, document: str) -> None:
        """Open the file, which is ours then, or begin it.

        Raises
        ------
        sqlite3.Error, ValueError
            When it can't be opened, when it is no file of ours or of another run, or when it is damaged.
        """
        database = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, check_same_thread=False)
        try:
            # Held until the file is closed. What the system has taken survives the process, which is what may end.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA synchronous = OFF")
            database.execute("BEGIN EXCLUSIVE")
            if not database.execute("SELECT name FROM sqlite_master").fetchall():
                for table in filter(str.strip, _TABLES.split(";")):
                    database.execute(table)
                database.execute("INSERT INTO run VALUES (?, '{}', ?)", (document, checksum_of({})))
                database.execute(f"PRAGMA application_id = {MARK}")
                database.execute(f"PRAGMA user_version = {LAYOUT}")
            for name, wanted in (("application_id", MARK), ("user_version", LAYOUT)):
                if database.execute(f"PRAGMA {name}").fetchone() != (wanted,):
                    raise ValueError("the file is of another program or version")
            ((found, about, checksum),) = database.execute("SELECT identity, about, checksum FROM run").fetchall()
            checks = checks_of(database)
            sound = database.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)  # what leads to the values, too
            if found != document or checksum != checksum_of(checks) or not sound:
                raise ValueError("the file is damaged, or of another run")
            self.about = json.loads(about)
            self.tiles = frozenset(int(key) for table, key in checks if table == "tiles")
            database.commit()
        except BaseException:
            database.close()
            raise
        self._database, self._checks = database, checks
        weakref.finalize(self, database.close)  # whoever forgets a run without closing it locks no one out

    def _write(self, changes: Callable[[_Write], object]) -> bool:
        """Make changes with the function that they are given, all or none; whether they are made."""
        if self._database is None or self.problem is not None:
            return False
        try:
            with self._database:
                changes(self._database.execute)
        except (OSError, MemoryError, sqlite3.Error) as error:
            self._give_up(error)
            return False
        return True

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        if self._database is not None:
            yield from self._database.execute(query, values)

    def _give_up(self, error: Exception) -> None:
        """Save nothing any more; what is saved stays ours until it is closed."""
        said = str(error) or type(error).__name__
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            said = "the same run goes on elsewhere, and saves there"
        self.problem = f"the run is not saved in {self.path.parent}: {said}; it goes on, but can't be taken up later"


def is_run_file(path: Path) -> bool:
    """Whether a file is named and marked as those of runs are, or was named so and ended before its first save."""
    if not _NAME.fullmatch(path.name):
        return False
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(72)
        return not head or (head.startswith(b"SQLite format 3\0") and head[68:] == MARK.to_bytes(4, "big"))
    return False


def _remove_old(folder: Path, wanted: Path) -> None:
    """Remove the files of runs that were not touched for long, but for the one that is."""
    with contextlib.suppress(OSError):
        for path in folder.glob("*.run"):
            with contextlib.suppress(OSError):
                if path != wanted and path.stat().st_mtime < time.time() - _OLD_SECONDS and is_run_file(path):
                    _delete(path)


def _delete(path: Path) -> None:
    for ending in reversed(_ENDINGS):  # a journal that is left alone would be taken for that of a later file
        with contextlib.suppress(OSError):
            path.with_name(path.name + ending).unlink(missing_ok=True)
