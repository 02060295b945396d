"""JSON documents of strangers: bounded, strict, and with errors that name the place."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from napari_nnunet_cpu.errors import ModelError

# Real ones have well under 1 MB; small empty lists would take twenty times the room of their text.
_MAX_BYTES = 8 * 2**20

Document = TypeVar("Document", bound=pydantic.BaseModel)


class Strict(pydantic.BaseModel):
    """Base of the documents: unknown keys are ignored, numbers are finite, values can't be changed afterwards."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def at_most(count: int) -> pydantic.BeforeValidator:
    """Refuses longer lists and objects before a look at what is in them: pydantic notes every error that it meets."""

    def check(value: Any) -> Any:
        if isinstance(value, list | dict) and len(value) > count:
            raise ValueError(f"it has {len(value)} entries, at most {count} make sense")
        return value

    return pydantic.BeforeValidator(check)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file, which may begin with a byte-order mark; NaN and Infinity are for `parse` to judge.

    Raises
    ------
    ModelError
        When the file is missing, too large, or not a JSON object.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ModelError(f"{path} has {size} bytes; a file of a model has at most {_MAX_BYTES}")
        document = json.loads(path.read_bytes())  # bytes, so that json finds out the encoding
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path} must hold a JSON object, found {type(document).__name__}")
    return document


def parse(kind: type[Document], document: Any, where: str) -> Document:
    """Validate a document read from JSON.

    Parameters
    ----------
    kind : type
        The pydantic model to make.
    document : object
        What was read.
    where : str
        File, and place in it, for the message.

    Raises
    ------
    ModelError
        With the first thing that is wrong.
    """
    try:
        return kind.model_validate(document)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        told = first["type"] in ("missing", "value_error")  # the latter are our own and say what they found
        found = "" if told else f", found {reprlib.repr(first['input'])}"
        message = first["msg"].removeprefix("Value error, ")
        # A stranger's names may hold line breaks.
        raise ModelError(" ".join(f"{where}: {place or 'document'}: {message}{found}".split())) from error
    except (RecursionError, OverflowError) as error:
        raise ModelError(f"{where}: {error}") from error
