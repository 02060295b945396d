"""What a finished run is told as: a document for machines, a table for people."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from napari_nnunet_cpu.events import duration
from napari_nnunet_cpu.resources import peak_memory_bytes

if TYPE_CHECKING:
    from napari_nnunet_cpu.predict import Result


def document_of(result: Result, images: Sequence[Path], output: Path) -> dict[str, Any]:
    """How the labels were made, where they are and what is in them: plain values for JSON.

    Parameters
    ----------
    result : Result
        Of the run.
    images : sequence of Path
        The files it was made from.
    output : Path
        Where the labels are.

    Returns
    -------
    dict
        The result's provenance with "images", "output", "volumes" ("ml" is None where it is not
        known) and "peak_memory_mb" (None where the system does not tell).
    """
    peak = peak_memory_bytes()
    return result.provenance | {
        "images": [str(path) for path in images],
        "output": str(output),
        "volumes": {
            name: {key: None if math.isnan(number) else number for key, number in volume.items()}
            for name, volume in result.volumes().items()
        },
        "peak_memory_mb": None if peak is None else round(peak / 2**20, 1),
    }


def check_report(path: Path | None) -> None:
    """Raise `OutputError` now, not after a long run, when the report could not be written to `path`."""
    from napari_nnunet_cpu.cases.files import check_place

    if path is not None:
        check_place(path)


def write_report(path: Path, document: dict[str, Any]) -> None:
    """Write a document as JSON: the whole file or none.

    Raises
    ------
    OutputError
        When it can't be written.
    """
    from napari_nnunet_cpu.cases.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def print_document(document: dict[str, Any]) -> None:
    """Print volumes, cost and output path of a document of `document_of` for people."""
    table = Table("value", "label", header_style="bold")
    table.add_column("voxels", justify="right")
    table.add_column("ml", justify="right")
    for name, volume in document["volumes"].items():
        ml = "not known" if volume["ml"] is None else f"{volume['ml']:,.2f}"
        table.add_row(str(volume["label"]), Text(name), f"{volume['voxels']:,}", ml)
    Console().print(table)
    threads = document["threads"]
    typer.echo(
        f"{document['settings']['preset']}: {document['tiles_done']} tiles, {document['passes_per_tile']} passes each, "
        f"in {duration(sum(document['seconds'].values()))} on {document['device']} "
        f"({document['engine']}, {document['precision']}, {threads} thread{'s' if threads > 1 else ''})"
    )
    typer.echo(f"labels: {document['output']}")
