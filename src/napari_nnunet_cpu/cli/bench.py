"""`nnunet-cpu bench`: a user's model and image, side by side with nnU-Net where that is installed."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, fields
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from napari_nnunet_cpu.cli.exits import exit_codes, print_json, printable
from napari_nnunet_cpu.cli.options import AsJson
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.settings import ENGINES, PRESETS, Settings

if TYPE_CHECKING:
    from napari_nnunet_cpu.bench import BenchCase


@dataclass(frozen=True)
class BenchOptions:
    """The options of a measurement, as they were typed."""

    pairs: Annotated[int, typer.Option(min=1, help="How often each side runs.")] = 3
    reference: Annotated[
        str,
        typer.Option(metavar="PYTHON", help="Interpreter that has nnunetv2; this one by default.", show_default=False),
    ] = sys.executable
    reference_timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Stop a run of nnU-Net after this time.")
    ] = 3600
    preset: Annotated[
        list[str] | None, typer.Option(metavar="|".join(PRESETS), help="Our preset, unmirrored; may be given twice.")
    ] = None
    engine: Annotated[str, typer.Option(metavar="|".join(ENGINES), help="The engine of our network.")] = "auto"
    streams: Annotated[
        list[int] | None, typer.Option(min=1, metavar="N", help="Also measure N tiles at a time; may be given twice.")
    ] = None
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep labels, caches and made cases in this folder.")
    ] = None
    live: Annotated[
        bool, typer.Option("--live", help="Ours alone, in a napari window: how soon labels appear on the slice shown.")
    ] = False
    as_json: AsJson = False

    def __post_init__(self) -> None:
        for preset in self.presets:
            Settings.from_preset(preset, engine=self.engine)
        if self.live and self.streams:
            raise SettingsError("--streams does not apply to --live: leave out one of them")

    @property
    def presets(self) -> list[str]:
        """The presets that are measured."""
        return self.preset or (["exact", "fast"] if self.live else ["exact"])

    @property
    def stream_counts(self) -> list[int]:
        """The numbers of streams, each of them once."""
        return list(dict.fromkeys(self.streams or []))

    def say(self, text: str) -> None:
        """Print a plain line, because a moving bar would take time from the measurement."""
        if not self.as_json:
            typer.echo(printable(text), err=True)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Make every field of `BenchOptions` an option of the command, which gets them all as `options`."""

    def run(**given: Any) -> None:
        with exit_codes(given["as_json"]):
            options = BenchOptions(**{field.name: given.pop(field.name) for field in fields(BenchOptions)})
            command(**given, options=options)

    # Typer reads the signature for the options, and the annotations for their types.
    hints = get_type_hints(command, include_extras=True) | get_type_hints(BenchOptions, include_extras=True)
    own = [each for each in signature(command).parameters.values() if each.name != "options"]
    every = [*own, *signature(BenchOptions).parameters.values()]
    run.__signature__ = Signature([each.replace(annotation=hints[each.name]) for each in every])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: hints[each.name] for each in every}
    run.__doc__ = command.__doc__
    return run


@with_options
def bench_command(
    model: Annotated[Path, typer.Option("-m", "--model", metavar="MODEL", help="Your model; its first fold is run.")],
    image: Annotated[list[Path], typer.Option("--image", metavar="IMAGE", help="A file per channel, in order.")],
    options: BenchOptions,
) -> None:
    """Measure time, memory and labels next to nnU-Net's; ours alone where nnunetv2 is not installed."""
    from napari_nnunet_cpu.bench import own_case

    case = own_case(model, tuple(image))
    measure(lambda _: [case], options)


def measure(cases: Callable[[Path], Iterable[BenchCase]], options: BenchOptions) -> dict[str, Any]:
    """Measure the cases, which may be made in the folder that `cases` gets; print and return the document."""
    with tempfile.TemporaryDirectory() if options.work is None else nullcontext(options.work) as work:
        how = _measure_live if options.live else _measure_pairs
        document = how(cases(Path(work)), options, Path(work))
    if options.as_json:
        print_json(document)
    return document


def _measure_pairs(cases: Iterable[BenchCase], options: BenchOptions, work: Path) -> dict[str, Any]:
    from napari_nnunet_cpu.bench import Theirs, measure_pairs, reference_line

    theirs = Theirs.find(options.reference, options.reference_timeout)
    if not options.as_json:
        typer.echo(reference_line(theirs.describe()))
    return measure_pairs(
        cases, presets=options.presets, streams=options.stream_counts, engine=options.engine,
        theirs=theirs, pairs=options.pairs, work=work, on_run=options.say,
        on_case=(lambda _: None) if options.as_json else _print_case,
    )  # fmt: skip


def _print_case(case: dict[str, Any]) -> None:
    from napari_nnunet_cpu.bench import HEADER, cells, title

    # A way of running takes a column: there are few, and many figures.
    table = Table(show_header=False)
    for name, *values in zip(HEADER, *map(cells, case["rows"]), strict=True):
        table.add_row(Text(name, style="bold"), *[Text(printable(value)) for value in values])
    typer.echo(printable(title(case)))
    Console().print(table)


def _measure_live(cases: Iterable[BenchCase], options: BenchOptions, work: Path) -> dict[str, Any]:
    from napari_nnunet_cpu.bench import measure_live

    document = measure_live(cases, options.presets, options.engine, options.pairs, work, options.say)
    if not options.as_json:
        _print_live(document["live"])
    return document


def _print_live(rows: list[dict[str, Any]]) -> None:
    table = Table(
        "case",
        "preset",
        "tiles",
        "whole",
        "first labels",
        "final labels",
        "longest gap",
        "outside add_layer",
        "gap at rest",
    )
    for row in rows:
        seconds = [row["whole"], row["first"], row["final"], row["gap"], row["gap_outside"], row["gap_idle"]]
        shown = ["–" if value is None else f"{value:.3g} s" for value in seconds]
        for place, share in ((1, row["first_share"]), (2, row["final_share"])):
            shown[place] += "" if share is None else f" ({share:.0%})"
        table.add_row(row["case"], row["preset"], str(row["tiles"]), *shown)
        if row["failure"] is not None:
            typer.echo(printable(f"{row['case']}, {row['preset']}: {row['failure']}"), err=True)
    Console().print(table)
