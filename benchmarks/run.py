"""Make the cases of the benchmarks, measure them side by side with nnU-Net, and write docs/benchmarks.md.

python benchmarks/run.py [CASE...] [--reference PYTHON] [--out docs/benchmarks.md]

`--help` names the cases and all options.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from made_cases import WRITERS, check_names, write_case
from page import page

from napari_nnunet_cpu.bench.case import BenchCase, own_case
from napari_nnunet_cpu.cases.files import check_place, replacing
from napari_nnunet_cpu.cli.bench import BenchOptions, measure, with_options
from napari_nnunet_cpu.errors import SettingsError

LIVE = ("sample", "300-cube")
LARGE = ("118-classes",)
SIDE_BY_SIDE = tuple(name for name in WRITERS if name not in ("300-cube", *LARGE))
_HELP = (
    f"{', '.join(SIDE_BY_SIDE)}: all of these by default. "
    f"{LARGE[0]} (large: an hour and 16 GB and more for nnU-Net). With --live {' and '.join(LIVE)}."
)
_OWN = ["-m", "MODEL", "--image", "IMAGE"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@with_options
def run(
    cases: Annotated[list[str] | None, typer.Argument(metavar="CASE", help=_HELP, show_default=False)] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="OUT.md", help="Also write a page like docs/benchmarks.md.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("-m", "--model", metavar="MODEL", help="Also, or instead: your own model …")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", metavar="IMAGE", help="… and image; a file per channel, in order.")
    ] = None,
    *,
    options: BenchOptions,
) -> None:
    """Measure the cases side by side with nnU-Net; ours alone if nnunetv2 is not installed."""
    names = cases or []
    if not names and model is None:
        names = list(LIVE if options.live else SIDE_BY_SIDE)
    check_names(names)
    if (model is None) != (not image):
        raise SettingsError("a model of your own needs an image, and an image a model: give both -m and --image")
    if out is not None:
        if options.live:
            raise SettingsError("--out is for runs side by side: leave it out, or --live")
        check_place(out)
    own = [] if model is None else [own_case(model, tuple(image or ()))]

    def made(folder: Path) -> Iterator[BenchCase]:
        for name in names:
            options.say(f"{name}: making image and model")
            yield write_case(name, folder)
        yield from own

    document = measure(made, options)
    if out is not None:
        command = _command([*names, *_OWN] if own else names, options)
        with replacing(out) as temporary:
            temporary.write_text(page(document, command), encoding="utf-8")


def _command(measured: list[str], options: BenchOptions) -> str:
    """The command that repeats the measurement, without the paths of this machine."""
    chosen = [word for preset in options.presets for word in ("--preset", preset)]
    chosen += [word for number in options.stream_counts for word in ("--streams", str(number))]
    rest = ["--pairs", str(options.pairs), "--reference", "PYTHON", "--out", "docs/benchmarks.md"]
    return " ".join(["python benchmarks/run.py", *measured, *chosen, *rest])


if __name__ == "__main__":
    app()
