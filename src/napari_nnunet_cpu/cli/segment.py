"""`nnunet-cpu segment`: one case, from its files to a file of labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_nnunet_cpu.cli.exits import exit_codes, print_json
from napari_nnunet_cpu.cli.options import (
    AsJson,
    Checkpoint,
    Configuration,
    Folds,
    ModelFolder,
)
from napari_nnunet_cpu.cli.progress import tile_progress
from napari_nnunet_cpu.cli.report import check_report, document_of, print_document, write_report
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.settings import ENGINES, PRESETS, Settings, parse_folds, parse_spacing

if TYPE_CHECKING:
    from napari_nnunet_cpu.cases import Case
    from napari_nnunet_cpu.models import TrainedModel
    from napari_nnunet_cpu.predict import Result


def segment_command(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="NIfTI or TIFF; several are the channels, in order.")
    ],
    model: ModelFolder,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="Labels: .nii.gz, .nii, .tif or .tiff.")],
    configuration: Configuration = None,
    folds: Folds = "all",
    checkpoint: Checkpoint = None,
    preset: Annotated[
        str, typer.Option(metavar="|".join(PRESETS), help="exact is nnU-Net's own way; the others are faster.")
    ] = "exact",
    engine: Annotated[str, typer.Option(metavar="|".join(ENGINES), help="What computes the network.")] = "auto",
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="Where; auto takes a GPU if there is one.")
    ] = "auto",
    step: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Distance of the tiles as a share of the patch (0.5)."),
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option("--mirror/--no-mirror", help="Average over mirrored patches, or not; the preset's choice else."),
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="CPU threads of the network (every core).")] = None,
    spacing: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Spacing in mm, instead of what the files say.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="OUT.json", help="Also write how the labels were made.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Segment one case: a file per channel in, a file of labels out."""
    with exit_codes(as_json):
        settings = Settings.from_preset(preset, engine=engine, device=device, step=step, mirror=mirror, threads=threads)
        chosen_folds = parse_folds(folds)
        spacing_mm = None if spacing is None else parse_spacing(spacing)
        _check_outputs(images, out, report)

        from napari_nnunet_cpu.cases import read_case
        from napari_nnunet_cpu.models import load_model
        from napari_nnunet_cpu.models.folder import CHECKPOINT

        case = read_case(*images, spacing_mm=spacing_mm)
        trained = load_model(model, configuration, chosen_folds, checkpoint or CHECKPOINT)
        if not case.spacing_known:
            assumed = "1 mm is assumed, as nnU-Net does: use --spacing"
            typer.echo(f"spacing is not stated in {images[0]}; {assumed}", err=True)
        result = run(case, trained, settings, visible=not as_json)
        result.save(out)
        document = document_of(result, images, out)
        if report is not None:
            write_report(report, document)
        if as_json:
            print_json(document)
        else:
            print_document(document)


def run(case: Case, model: TrainedModel, settings: Settings, visible: bool) -> Result:
    """Segment a case with a progress bar on stderr, if `visible`."""
    from napari_nnunet_cpu.predict import segment

    with tile_progress(visible) as show:
        return segment(case, model, settings, on_event=show)


def _check_outputs(images: list[Path], out: Path, report: Path | None) -> None:
    """Find out before a long run what would go wrong after it."""
    from napari_nnunet_cpu.cases.files import check_output

    check_output(out)
    check_report(report)
    if report is not None and report.resolve() == out.resolve():
        raise SettingsError(f"{out} can't be both labels and report: choose another file for one")
    for image in images:
        for written in (out, report):
            if written is not None and written.exists() and image.exists() and written.samefile(image):
                raise SettingsError(f"{written} is the image itself: choose another file to write")
