"""Changes to the files of a model folder: what turns a valid model into the one a test needs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

CONFIGURATION = "configurations.3d_fullres"
ARGUMENTS = f"{CONFIGURATION}.architecture.arch_kwargs"
CHECKPOINT = Path("fold_0") / "checkpoint_final.pth"


class Payload:
    """Asks pickle to call a function when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def put(document: Any, place: str | Sequence[str | int], value: Any) -> None:
    """Set what lies at a place, such as "labels.liver"."""
    *outer, last = place.split(".") if isinstance(place, str) else place
    for key in outer:
        document = document[key]
    document[int(last) if isinstance(document, list) else last] = value


def places(document: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a document, outermost first."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


def edit_json(path: Path, changes: dict[str, Any] | None = None, without: str | None = None) -> None:
    """Change values in a JSON file by their place, or take a top-level key out."""
    document = json.loads(path.read_text())
    for place, value in (changes or {}).items():
        put(document, place, value)
    if without is not None:
        del document[without]
    path.write_text(json.dumps(document))


def edit_checkpoint(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the content of a checkpoint in place."""
    content = torch.load(path, weights_only=False)
    change(content)
    torch.save(content, path)


def edit_records(path: Path, change: Callable[[dict[str, bytes]], Any], compression: int = zipfile.ZIP_STORED) -> None:
    """Change the records of a torch archive by name; the checksums are right afterwards."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)


def zip_model(folder: Path, target: Path) -> Path:
    """Export a model folder as nnU-Net does: Dataset folder, model folder, files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent.parent))
    return target


def spoil(path: Path, old: bytes, new: bytes, every: bool = False) -> None:
    """Replace bytes of a file, at their last place or at every one."""
    content = path.read_bytes()
    place = content.rindex(old)
    path.write_bytes(content.replace(old, new) if every else content[:place] + new + content[place + len(old) :])
