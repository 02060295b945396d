"""The command line, `nnunet-cpu`. Commands import torch, numpy and napari only when they need them."""

from __future__ import annotations

import importlib.metadata
import io
import sys
from typing import Annotated

import typer

from napari_nnunet_cpu.cli.bench import bench_command
from napari_nnunet_cpu.cli.demo import demo_command
from napari_nnunet_cpu.cli.inspect import inspect_command
from napari_nnunet_cpu.cli.segment import segment_command

app = typer.Typer(
    help="Run trained nnU-Net v2 models, with the CPU as a first-class device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo_command)
app.command("inspect")(inspect_command)
app.command("segment", no_args_is_help=True)(segment_command)
app.command("bench")(bench_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-nnunet-cpu {importlib.metadata.version('napari-nnunet-cpu')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of `nnunet-cpu`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Escaped, because names of files and labels may not fit the terminal's encoding.
        sys.stdout.reconfigure(errors="backslashreplace")
    app()
