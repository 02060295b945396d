"""Read untrusted JSON documents: of limited size, strictly validated, with errors that name the position."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from napari_nnunet_cpu.errors import ModelError

# Real documents have well under 1 MB. The limit is low, because many empty lists take 20 times their text in memory.
_MAX_BYTES = 8 * 2**20

Document = TypeVar("Document", bound=pydantic.BaseModel)


class Strict(pydantic.BaseModel):
    """Base of all documents: ignores unknown keys, requires finite numbers, and is immutable."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def at_most(count: int) -> pydantic.BeforeValidator:
    """Limit the entries of a list or object, checked first because pydantic collects the errors of every entry."""

    def check(value: Any) -> Any:
        if isinstance(value, list | dict) and len(value) > count:
            raise ValueError(f"it has {len(value)} entries, at most {count} make sense")
        return value

    return pydantic.BeforeValidator(check)


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file. NaN and Infinity are accepted here, because `parse` refuses them.

    Raises `ModelError` if the file is missing, too large, or not a JSON object.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ModelError(f"{path} has {size} bytes; a file of a model has at most {_MAX_BYTES}")
        document = json.loads(path.read_bytes())  # bytes, so that json detects the encoding
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path} must hold a JSON object, found {type(document).__name__}")
    return document


def parse(kind: type[Document], document: Any, where: str) -> Document:
    """Validate a document read from JSON as a pydantic model.

    Raises `ModelError` with the first problem; `where` names the file, and the position in it, for the message.
    """
    try:
        return kind.model_validate(document)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        complete = first["type"] in ("missing", "value_error")  # our own value errors name the value found
        found = "" if complete else f", found {reprlib.repr(first['input'])}"
        message = first["msg"].removeprefix("Value error, ")
        # Names in the document may hold line breaks.
        raise ModelError(" ".join(f"{where}: {place or 'document'}: {message}{found}".split())) from error
    except (RecursionError, OverflowError) as error:
        raise ModelError(f"{where}: {error}") from error
