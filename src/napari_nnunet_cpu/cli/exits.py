"""The end of a command: its exit code, and one line with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from napari_nnunet_cpu.errors import NNUNetCPUError, SettingsError

FAILED = 1
USAGE = 2


@contextmanager
def exit_codes(as_json: bool) -> Iterator[None]:
    """Turn expected errors in the block into one line on stderr and an exit code: 2 for wrong usage, else 1.

    With `as_json`, also print {"error": ...} on stdout.
    """
    try:
        yield
    except KeyboardInterrupt:
        _exit(FAILED, "cancelled", "cancelled", as_json)
    except BrokenPipeError:  # handled by typer
        raise
    except MemoryError:
        _fail(FAILED, "out of memory; free some and try again", as_json)
    except SettingsError as error:
        _fail(USAGE, str(error), as_json)
    except NNUNetCPUError as error:
        _fail(FAILED, str(error), as_json)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(FAILED, f"{where}{error.strerror or error}", as_json)


def printable(text: str) -> str:
    """Escape all characters that a terminal would obey, because names in models and files are not trusted."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "backslashreplace").decode() for sign in text
    )


def print_json(document: Any) -> None:
    """Print a document on stdout."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def _fail(code: int, message: str, as_json: bool) -> NoReturn:
    one_line = printable(" ".join(message.split()))
    _exit(code, one_line, f"error: {one_line}", as_json)


def _exit(code: int, reason: str, line: str, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"error": reason})
    typer.echo(line, err=True)
    raise typer.Exit(code)
