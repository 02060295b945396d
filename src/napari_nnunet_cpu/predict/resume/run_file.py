"""The run file: an SQLite database that saves one run while it computes, in a folder of run files.

SQLite writes a save as a whole or not at all, even if the process is killed, and a full disk leaves the last save
intact. A checksum over all entries detects files damaged by a power failure, so that a save need not wait for the disk.
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
_Write = Callable[[str, tuple[Any, ...]], object]  # executes an SQL statement with its values

MARK = 0x6E6E5543  # SQLite's application_id, which marks our files
LAYOUT = 2  # version of the tables below; files of another version are replaced
_TABLES = """
CREATE TABLE run (identity TEXT NOT NULL, about TEXT NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE tiles (number INTEGER PRIMARY KEY);
CREATE TABLE labels (box TEXT PRIMARY KEY, dtype TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE sums (box TEXT NOT NULL, head INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (box, head));
"""
# Errors caused by another process or the disk; the file may be intact.
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
_WAIT_SECONDS = 0.5  # for another process that is listing the saved runs
_OLD_SECONDS = 30 * 24 * 3600.0
_NAME = re.compile(r"[0-9a-f]{16}\.run")
_ENDINGS = ("", "-journal")


class RunFile:
    """The file of one run. If it can't be opened or written, the run continues without being saved.

    The file is locked against other processes until it is closed. One thread at a time may use it. It is made in
    `folder`, which is created if needed, and named after the hash of `identity`, see `identity_of`. Files in the folder
    that were not used for 30 days are removed.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.path = folder / f"{hash_of(identity)[:16]}.run"
        self.problem: str | None = None  # why the run is not saved, for the user
        self.tiles: frozenset[int] = frozenset()  # indices of the tiles that were saved when the file was opened
        self.about: dict[str, Any] = {}  # the last description, see `describe`
        self._database: sqlite3.Connection | None = None
        self._checks: dict[tuple[str, str], int] = {}  # checksums of the saved entries, by table and key
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
        """Whether labels are saved; then the sums that they were made from may be removed."""
        return any(table == "labels" for table, _ in self._checks)

    def describe(self, about: Mapping[str, Any]) -> None:
        """Store plain values that describe the run to people and to `saved_runs`."""
        self.about = dict(about)
        self._write(lambda write: write("UPDATE run SET about = ?", (json.dumps(self.about),)))

    def labels(self) -> Iterator[tuple[Box, Array]]:
        """The saved final labels: boxes and arrays (Z, Y, X)."""
        for text, dtype, data in self._rows("SELECT box, dtype, data FROM labels ORDER BY rowid"):
            box = Box.parse(text)
            yield box, np.frombuffer(zlib.decompress(data), dtype).reshape(box.shape)

    def sums(self) -> Iterator[tuple[Box, npt.NDArray[np.float32]]]:
        """The saved sums, by row: blocks of the padded image and arrays (heads + 1, Z, Y, X), the weights last."""
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
        """Save all of the arguments or nothing; returns whether they are saved.

        `tiles` are indices, `labels` are boxes with arrays (Z, Y, X), and `sums` are blocks with arrays
        (heads + 1, Z, Y, X), which replace earlier sums of the same block. The sums of blocks in `gone` are removed.
        If saving fails, `problem` says why, and nothing more will be saved.
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
        """Remove all saved entries."""
        nothing: dict[tuple[str, str], int] = {}

        def changes(write: _Write) -> None:
            for table in ("tiles", "labels", "sums"):
                write(f"DELETE FROM {table}", ())
            write("UPDATE run SET checksum = ?", (checksum_of(nothing),))

        self._write(changes)
        self.tiles, self._checks = frozenset(), nothing

    def remove(self) -> None:
        """Delete the file, because the run is finished and its labels are safe elsewhere."""
        self._checks = {}
        self.close()

    def close(self) -> None:
        """Close and unlock the file; nothing more can be saved. A file without entries is deleted."""
        if self._database is not None:
            if not self._checks:
                _delete(self.path)  # before unlocking, because another process may open it then
            self._database.close()
            if not self._checks and sys.platform == "win32":  # because Windows can't delete open files
                _delete(self.path)
        self._database = None

    def _open(self, document: str) -> None:
        """Open and lock the file, or create it.

        Raises `sqlite3.Error` or `ValueError` if it can't be opened, is damaged, or is not the file of this run.
        """
        database = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, check_same_thread=False)
        try:
            # The lock lasts until the file is closed. Saves need not be synchronous, because data that the system has
            # taken over survive the end of the process.
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
                    raise ValueError("the file belongs to another program or version")
            ((found, about, checksum),) = database.execute("SELECT identity, about, checksum FROM run").fetchall()
            checks = checks_of(database)
            sound = database.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)  # of indices too
            if found != document or checksum != checksum_of(checks) or not sound:
                raise ValueError("the file is damaged or belongs to another run")
            self.about = json.loads(about)
            self.tiles = frozenset(int(key) for table, key in checks if table == "tiles")
            database.commit()
        except BaseException:
            database.close()
            raise
        self._database, self._checks = database, checks
        weakref.finalize(self, database.close)  # unlocks the file of a run that is dropped without being closed

    def _write(self, changes: Callable[[_Write], object]) -> bool:
        """Call `changes` with a function that executes SQL, in one transaction; returns whether it succeeded."""
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
        """Stop saving; the file stays locked until it is closed."""
        reason = str(error) or type(error).__name__
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            reason = "another process computes and saves the same run"
        self.problem = f"the run is not saved in {self.path.parent}: {reason}; it continues, but can't be resumed later"


def is_run_file(path: Path) -> bool:
    """Whether a file has the name and the mark of a run file, or the name and no content, before its first save."""
    if not _NAME.fullmatch(path.name):
        return False
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(72)
        return not head or (head.startswith(b"SQLite format 3\0") and head[68:] == MARK.to_bytes(4, "big"))
    return False


def _remove_old(folder: Path, wanted: Path) -> None:
    """Remove old run files, but not the wanted one."""
    with contextlib.suppress(OSError):
        for path in folder.glob("*.run"):
            with contextlib.suppress(OSError):
                if path != wanted and path.stat().st_mtime < time.time() - _OLD_SECONDS and is_run_file(path):
                    _delete(path)


def _delete(path: Path) -> None:
    for ending in reversed(_ENDINGS):  # the journal first, because SQLite would apply it to a later file of this name
        with contextlib.suppress(OSError):
            path.with_name(path.name + ending).unlink(missing_ok=True)
