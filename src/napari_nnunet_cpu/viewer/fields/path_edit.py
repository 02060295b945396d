"""A field for a path that accepts pasted text."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.request import url2pathname

from magicgui.widgets import FileEdit

_QUOTES = ('""', "''", "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}")


class PathEdit(FileEdit):
    """A field for a path, also with blanks around it, in quotes, or as a file:// address."""

    def get_value(self) -> tuple[Path, ...] | Path | None:
        """The path in the field; None if it is empty."""
        text = pasted(self.line_edit.value)
        return Path(os.path.expanduser(text)) if text else None  # noqa: PTH111  # pathlib's raises for an unknown ~user


def pasted(text: str) -> str:
    """The path in a pasted text, without blanks, quotes or file://."""
    path = text.strip()
    if len(path) > 1 and path[0] + path[-1] in _QUOTES:
        path = path[1:-1].strip()
    if path[:7].lower() != "file://":
        return path
    host, _, rest = path[7:].partition("/")
    return url2pathname(f"/{rest}" if host in ("", "localhost") else f"//{host}/{rest}")
