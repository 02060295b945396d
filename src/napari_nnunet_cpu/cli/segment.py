"""`nnunet-cpu segment`: one case, from its files to a file of labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_nnunet_cpu.cli.exits import exit_codes, print_json, printable
from napari_nnunet_cpu.cli.options import (
    AsJson,
    Checkpoint,
    Configuration,
    Folds,
    ModelFolders,
)
from napari_nnunet_cpu.cli.progress import tile_progress
from napari_nnunet_cpu.cli.report import document_of, print_document, write_report
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.settings import (
    ENGINES,
    PRECISIONS,
    PRESETS,
    Settings,
    parse_folds,
    parse_memory,
    parse_spacing,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_nnunet_cpu.cases import Case
    from napari_nnunet_cpu.models import Model
    from napari_nnunet_cpu.predict import Result


def segment_command(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE", help="NIfTI, TIFF, ITK (.nrrd, .mha), PNG …; several are the channels, in order."
        ),
    ],
    model: ModelFolders,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="Labels: .nii.gz, .nii, .nrrd, .mha, .tif or .png.")
    ],
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
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(PRECISIONS), help="int8 where it is faster and agrees; the preset's choice else."
        ),
    ] = None,
    agreement: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Dice with f32 that int8 must reach in every class (0.97)."),
    ] = None,
    step: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Distance of the tiles as a share of the patch (0.5)."),
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option("--mirror/--no-mirror", help="Average over mirrored patches, or not; the preset's choice else."),
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="CPU threads (every core).")] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory for the run, as 4GB, besides the image (most of what is free)."),
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Spacing in mm, instead of what the files say.")
    ] = None,
    first_stage: Annotated[
        Path | None,
        typer.Option(metavar="LABELS", help="For a cascade: labels of its first stage, which is then not run."),
    ] = None,
    save_first_stage: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Also write the labels of a cascade's first stage.")
    ] = None,
    postprocess: Annotated[
        bool, typer.Option("--postprocess", help="Apply the postprocessing that nnU-Net found for the model.")
    ] = False,
    probabilities: Annotated[
        Path | None, typer.Option(metavar="OUT.npz", help="Also write the probabilities, as nnU-Net does.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="OUT.json", help="Also write how the labels were made.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Segment one case: a file per channel in, a file of labels out."""
    with exit_codes(as_json):
        settings = Settings.from_preset(
            preset,
            engine=engine,
            device=device,
            precision=precision,
            agreement=agreement,
            step=step,
            mirror=mirror,
            threads=threads,
            memory=None if memory is None else parse_memory(memory),
            postprocess=postprocess,
            probabilities=probabilities is not None,
        )
        chosen_folds = parse_folds(folds)
        spacing_mm = None if spacing is None else parse_spacing(spacing)
        outputs = {"labels": out, "probabilities": probabilities, "first_stage": save_first_stage, "report": report}
        inputs = images if first_stage is None else [*images, first_stage]
        _check_outputs(inputs, {name: path for name, path in outputs.items() if path is not None})

        from napari_nnunet_cpu.cases import read_case, read_labels
        from napari_nnunet_cpu.cases.files import check_output
        from napari_nnunet_cpu.models import load_model
        from napari_nnunet_cpu.models.folder import CHECKPOINT

        case = read_case(*images)
        given = None if first_stage is None else read_labels(first_stage, case)
        if spacing_mm is not None:
            case = case.with_spacing(spacing_mm)
        for labels in (out, save_first_stage):
            if labels is not None:
                check_output(labels, case)
        trained = [load_model(path, configuration, chosen_folds, checkpoint or CHECKPOINT) for path in model]
        if not any(member.cascade for member in trained) and (first_stage or save_first_stage):
            raise SettingsError(f"{model[0]} is no cascade: leave --first-stage and --save-first-stage away")
        if given is not None and save_first_stage is not None:
            raise SettingsError("the first stage is not run when its labels are given: leave --save-first-stage away")
        if not case.spacing_known:
            assumed = "1 mm is assumed, as nnU-Net does: use --spacing"
            typer.echo(printable(f"spacing is not stated in {images[0]}; {assumed}"), err=True)
        result = run(case, trained, settings, visible=not as_json, first_stage=given)
        written = {"labels": result.save(out)}
        if probabilities is not None:
            written["probabilities"] = result.save_probabilities(probabilities)
        if save_first_stage is not None and result.first_stage is not None:
            written["first_stage"] = result.first_stage.save(save_first_stage)
        document = document_of(result, images, written)
        if report is not None:
            write_report(report, document)
        if as_json:
            print_json(document)
        else:
            print_document(document)


def run(
    case: Case, model: Model, settings: Settings, visible: bool, first_stage: npt.NDArray[Any] | None = None
) -> Result:
    """Segment a case, with its cost and then a progress bar on stderr, if `visible`."""
    from napari_nnunet_cpu.predict import estimate, segment

    if visible:
        typer.echo(f"up to {estimate(case, model, settings, first_stage).text}", err=True)
    with tile_progress(visible) as show:
        return segment(case, model, settings, on_event=show, first_stage=first_stage)


def _check_outputs(inputs: list[Path], outputs: dict[str, Path]) -> None:
    """Find out before a long run what would go wrong after it."""
    from napari_nnunet_cpu.cases.files import check_output, check_place
    from napari_nnunet_cpu.predict.result import check_probabilities

    check = {"labels": check_output, "first_stage": check_output, "probabilities": check_probabilities}
    taken: dict[Path, str] = {}
    for name, path in outputs.items():
        check.get(name, check_place)(path)
        place = path.resolve()
        if place in taken:
            raise SettingsError(f"{path} can't be both {taken[place]} and {name}: choose another file for one")
        taken[place] = name
        for read in inputs:
            if path.exists() and read.exists() and path.samefile(read):
                raise SettingsError(f"{path} is to be read, too: choose another file to write")
