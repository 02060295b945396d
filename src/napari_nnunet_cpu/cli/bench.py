"""`nnunet-cpu bench`: side by side with nnU-Net, where that is installed."""

from __future__ import annotations

import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from napari_nnunet_cpu.cli.exits import exit_codes, print_json, printable
from napari_nnunet_cpu.cli.options import AsJson
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.settings import ENGINES, PRESETS, Settings

_HELP = (
    "5-classes, 60-classes, 2d, sample, one-tile: all of these by default. "
    "118-classes (large: an hour and 16 GB and more for nnU-Net). With --live sample and 300-cube."
)
_DEFAULT = ("5-classes", "60-classes", "2d", "sample", "one-tile")
_LIVE = ("sample", "300-cube")


def bench_command(
    cases: Annotated[list[str] | None, typer.Argument(metavar="CASE", help=_HELP, show_default=False)] = None,
    model: Annotated[
        Path | None, typer.Option("-m", "--model", metavar="MODEL", help="Also, or instead: your own model …")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", metavar="IMAGE", help="… and image; a file per channel, in order.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="How often each side runs.")] = 3,
    reference: Annotated[
        str,
        typer.Option(metavar="PYTHON", help="Interpreter that has nnunetv2; this one by default.", show_default=False),
    ] = sys.executable,
    reference_timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="When a run of nnU-Net is given up.")
    ] = 3600,
    preset: Annotated[
        list[str] | None, typer.Option(metavar="|".join(PRESETS), help="Ours, without mirroring; may be given twice.")
    ] = None,
    engine: Annotated[str, typer.Option(metavar="|".join(ENGINES), help="Computes our network.")] = "auto",
    streams: Annotated[
        list[int] | None, typer.Option(min=1, metavar="N", help="Also so many passes at a time; may be given twice.")
    ] = None,
    work: Annotated[Path | None, typer.Option(metavar="DIR", help="Keeps images and models for the next time.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="OUT.md", help="Also write a page, as docs/benchmarks.md.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ours alone, in a napari window: how soon labels are on the slice shown.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure time, memory and labels next to nnU-Net's; ours alone where nnunetv2 is not installed."""
    with exit_codes(as_json):
        names, images, presets, more = cases or [], image or [], preset or ["exact"], list(dict.fromkeys(streams or []))
        if not names and model is None:
            names = list(_LIVE if live else _DEFAULT)
        for wanted in presets:
            Settings.from_preset(wanted, engine=engine)
        if (model is None) != (not images):
            raise SettingsError("a model of your own needs an image, and an image a model: give both -m and --image")

        if live:
            if more:
                raise SettingsError("--streams is for runs side by side: leave it out, or --live")
            _live(names, model, images, preset or ["exact", "fast"], pairs, work, as_json)
            return

        from napari_nnunet_cpu.bench.document import bench
        from napari_nnunet_cpu.bench.page import page, reference_line
        from napari_nnunet_cpu.bench.theirs import Theirs
        from napari_nnunet_cpu.cases.files import check_place, replacing

        if out is not None:
            check_place(out)
        theirs = Theirs.find(reference, reference_timeout)
        if not as_json:
            typer.echo(reference_line(theirs.describe()))
        with tempfile.TemporaryDirectory() if work is None else nullcontext(work) as folder:
            document = bench(
                names, model, images, presets=presets, streams=more, engine=engine, theirs=theirs, pairs=pairs,
                work=Path(folder),
                on_run=_ignore if as_json else _print_run,
                on_case=_ignore if as_json else _print_case,
            )  # fmt: skip
        if out is not None:
            own = [] if model is None else ["-m", "MODEL", "--image", "IMAGE"]
            with replacing(out) as temporary:
                temporary.write_text(page(document, _command([*names, *own], presets, more, pairs)), encoding="utf-8")
        if as_json:
            print_json(document)


def _live(
    names: list[str],
    model: Path | None,
    images: list[Path],
    presets: list[str],
    times: int,
    work: Path | None,
    as_json: bool,
) -> None:
    from napari_nnunet_cpu.bench.document import bench_live

    with tempfile.TemporaryDirectory() if work is None else nullcontext(work) as folder:
        document = bench_live(
            names, model, images, presets=presets, times=times, work=Path(folder),
            on_run=_ignore if as_json else _print_run,
        )  # fmt: skip
    if as_json:
        print_json(document)
        return
    table = Table("case", "preset", "tiles", "whole", "first labels", "final labels", "longest gap", "gap at rest")
    for row in document["live"]:
        seconds = [row["whole"], row["first"], row["final"], row["gap"], row["gap_idle"]]
        shown = ["–" if value is None else f"{value:.3g} s" for value in seconds]
        for place, share in ((1, row["first_share"]), (2, row["final_share"])):
            shown[place] += "" if share is None else f" ({share:.0%})"
        table.add_row(row["case"], row["preset"], str(row["tiles"]), *shown)
        if row["failure"] is not None:
            typer.echo(printable(f"{row['case']}, {row['preset']}: {row['failure']}"), err=True)
    Console().print(table)


def _command(measured: list[str], presets: list[str], streams: list[int], pairs: int) -> str:
    """The command that measures the same again, without the paths of this machine."""
    chosen = [word for preset in presets for word in ("--preset", preset)]
    chosen += [word for number in streams for word in ("--streams", str(number))]
    rest = ["--pairs", str(pairs), "--reference", "PYTHON", "--out", "docs/benchmarks.md"]
    return " ".join(["nnunet-cpu", "bench", *measured, *chosen, *rest])


def _ignore(_: object) -> None:
    pass


def _print_run(text: str) -> None:
    """A plain line: what moves on the terminal would take time from what is measured."""
    typer.echo(printable(text), err=True)


def _print_case(case: dict[str, Any]) -> None:
    from napari_nnunet_cpu.bench.table import HEADER, cells, title

    # A way of running takes a column: there are few, and many figures.
    table = Table(show_header=False)
    for name, *values in zip(HEADER, *map(cells, case["rows"]), strict=True):
        table.add_row(Text(name, style="bold"), *[Text(printable(value)) for value in values])
    typer.echo(printable(title(case)))
    Console().print(table)
