"""Small JSON documents in the cache folder, which save later processes a measurement or a search.

Anyone may delete them at any time. Nothing is remembered if the folder can't be written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_nnunet_cpu.resources import cache_folder, processor_name
from napari_nnunet_cpu.whole_files import whole_file


def hash_of(document: Mapping[str, Any]) -> str:
    """A hash of a document of plain values, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def this_computer() -> list[Any]:
    """Values that identify this computer, because several computers may share a home folder."""
    return [platform.machine(), processor_name(), os.cpu_count(), platform.node()]


def file_sha256(path: Path) -> str:
    """The SHA-256 of the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recall(kind: str, key: str) -> dict[str, Any] | None:
    """The document stored under a key made by `hash_of`; None if it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        document = json.loads(_file(kind, key).read_text(encoding="utf-8"))
        if isinstance(document, dict):
            return document
    return None


def remember(kind: str, key: str, document: Mapping[str, Any]) -> None:
    """Store a document of plain values, replacing the earlier one; do nothing if the folder can't be written."""
    file = _file(kind, key)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as temporary:
            temporary.write_text(json.dumps(document), encoding="utf-8")


def _file(kind: str, key: str) -> Path:
    return cache_folder() / kind / f"{key[:32]}.json"
