"""Checksums of what the file of a run holds: one for every entry, and one over all of them."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping
from typing import Any


def checks_of(database: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """The checksums of all that is saved, which is read for it."""
    checks = {
        ("tiles", str(number)): check_of("tiles", number) for (number,) in database.execute("SELECT * FROM tiles")
    }
    for box, dtype, data in database.execute("SELECT box, dtype, data FROM labels"):
        checks["labels", box] = check_of("labels", box, dtype, data=data)
    for box, head, data in database.execute("SELECT box, head, data FROM sums"):
        checks["sums", box] = checks.get(("sums", box), 0) ^ check_of("sums", box, head, data=data)
    return checks


def check_of(*key: Any, data: Any = b"") -> int:
    """That of one entry: what it is named by, and its data."""
    return zlib.crc32(data, zlib.crc32(" ".join(map(str, key)).encode()))


def checksum_of(checks: Mapping[tuple[str, str], int]) -> int:
    """One number for all of them, in whatever order."""
    return sum(checks.values())
