"""Checksums of a run file: one for every entry, and one for all entries."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping
from typing import Any


def checks_of(database: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """Read all entries of a run file and compute their checksums, by table and key."""
    checks = {
        ("tiles", str(number)): check_of("tiles", number) for (number,) in database.execute("SELECT * FROM tiles")
    }
    for box, dtype, data in database.execute("SELECT box, dtype, data FROM labels"):
        checks["labels", box] = check_of("labels", box, dtype, data=data)
    for box, head, data in database.execute("SELECT box, head, data FROM sums"):
        checks["sums", box] = checks.get(("sums", box), 0) ^ check_of("sums", box, head, data=data)
    return checks


def check_of(*key: Any, data: Any = b"") -> int:
    """The CRC-32 of one entry: its key and its data."""
    return zlib.crc32(data, zlib.crc32(" ".join(map(str, key)).encode()))


def checksum_of(checks: Mapping[tuple[str, str], int]) -> int:
    """One number for all checksums, independent of their order."""
    return sum(checks.values())
