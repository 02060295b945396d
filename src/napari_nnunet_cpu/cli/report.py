"""Report a finished run, as a JSON document and as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from napari_nnunet_cpu.cli.exits import printable
from napari_nnunet_cpu.events import duration
from napari_nnunet_cpu.resources import peak_memory_bytes

if TYPE_CHECKING:
    from napari_nnunet_cpu.predict import Estimate, Result


def document_of(
    result: Result, images: Sequence[Path], outputs: Mapping[str, Path], estimate: Estimate
) -> dict[str, Any]:
    """The report of a run as plain values for JSON.

    It is the result's provenance with "images" (input files), "outputs" (files by name), "volumes" ("ml" is None for
    an unknown spacing), "peak_memory_mb" (None if the system does not tell), and the "estimate" from before the run
    beside its "measured" values: tiles, passes, seconds, and bytes at the peak on top of those before the run.
    """
    peak, history = peak_memory_bytes(), result.provenance
    before = history["runs"][0]["bytes_before"]
    return history | {
        "estimate": asdict(estimate),
        "measured": {
            "tiles": history["tiles_done"],
            "passes": history["passes"],
            "seconds": round(sum(history["seconds"].values()), 3),
            "bytes": None if peak is None else peak - before,
        },
        "images": [str(path) for path in images],
        "outputs": {name: str(path) for name, path in outputs.items()},
        "volumes": {
            name: {key: None if math.isnan(number) else number for key, number in volume.items()}
            for name, volume in result.volumes().items()
        },
        "peak_memory_mb": None if peak is None else round(peak / 2**20, 1),
    }


def write_report(path: Path, document: dict[str, Any]) -> None:
    """Write a document as JSON atomically; raises `OutputError` if it can't be written."""
    from napari_nnunet_cpu.cases import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def model_line(model: Mapping[str, Any]) -> str:
    """One line with the model and the averaged folds, from `TrainedModel.describe`."""
    folds = ", ".join(model["folds"])
    return printable(f"model: {model['name']} {model['configuration']}, folds {folds} ({model['checkpoint']})")


def print_notice(notice: str | None) -> None:
    """Print the notice of a model on stderr, if it has one."""
    if notice is not None:
        typer.echo(printable(f"notice: {notice}"), err=True)


def print_document(document: dict[str, Any]) -> None:
    """Print volumes, models, cost and output paths from `document_of` on stdout."""
    table = Table("value", "label", header_style="bold")
    table.add_column("voxels", justify="right")
    table.add_column("ml", justify="right")
    for name, volume in document["volumes"].items():
        ml = "not known" if volume["ml"] is None else f"{volume['ml']:,.2f}"
        table.add_row(str(volume["label"]), Text(printable(name)), f"{volume['voxels']:,}", ml)
    Console().print(table)
    for made in document["runs"]:
        typer.echo(model_line(made["model"]))
    last, threads = document["runs"][-1], document["runs"][-1]["threads"]
    if document["settings"]["precision"] == "int8":  # to show its agreement, or why the run took f32
        typer.echo(printable(f"engine: {last['engine_reason']}"))
    typer.echo(
        f"{document['settings']['preset']}: {document['tiles_done']} tiles, {document['passes']} passes, "
        f"in {duration(sum(document['seconds'].values()))} on {last['device']} "
        f"({last['engine']}, {last['precision']}, {threads} thread{'s' if threads > 1 else ''})"
    )
    for name, path in document["outputs"].items():
        typer.echo(printable(f"{name.replace('_', ' ')}: {path}"))
