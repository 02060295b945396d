"""Files and folders that are written as a whole or not at all, whatever ends the writing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path with the folder and ending of `path`, which it replaces when the block ends without an error.

    The folder must exist. The file is readable for its owner alone.
    """
    # In lower case, because a MetaImage that ends with .MHA is written as two files with other names.
    # The start is cut off, because a longer name could exceed the limit of the file system.
    handle, name = tempfile.mkstemp(prefix=".", suffix=path.name.lower()[-40:], dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, which it becomes when the block ends without an error.

    Raises `OSError` if `path` is there by then and not empty, such as that of another process.
    """
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.parent))
    try:
        yield temporary
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
