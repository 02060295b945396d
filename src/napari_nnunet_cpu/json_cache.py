"""Small findings that a later process need not make again: JSON documents in the cache folder.

They may be deleted at any time, and where the folder can't be written nothing is remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_nnunet_cpu.resources import cache_folder, processor_name


def hash_of(document: Mapping[str, Any]) -> str:
    """A name for a document of plain values, whatever their order."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def this_computer() -> list[Any]:
    """What tells computers apart: a home folder may be shared by some that differ."""
    return [platform.machine(), processor_name(), os.cpu_count(), platform.node()]


def file_sha256(path: Path) -> str:
    """Hash of what is in a file.

    Raises
    ------
    OSError
        When it can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recall(kind: str, key: str) -> dict[str, Any] | None:
    """The document remembered under a key of `hash_of`; None where there is none, or it is damaged."""
    with contextlib.suppress(OSError, ValueError):
        document = json.loads(_file(kind, key).read_text(encoding="utf-8"))
        if isinstance(document, dict):
            return document
    return None


def remember(kind: str, key: str, document: Mapping[str, Any]) -> None:
    """Keep a document of plain values: the whole one, or what was there before."""
    file = _file(kind, key)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(document).encode())


def write_whole(file: Path, *parts: bytes | memoryview) -> None:
    """Write a file; where that is not possible (no room, no right to write) what was there before is still there."""
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=".", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as temporary:
                temporary.writelines(parts)
            Path(name).replace(file)
        finally:
            Path(name).unlink(missing_ok=True)


def _file(kind: str, key: str) -> Path:
    return cache_folder() / kind / f"{key[:32]}.json"
