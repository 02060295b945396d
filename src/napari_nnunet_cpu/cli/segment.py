"""`nnunet-cpu segment`: one case, from its files to a file of labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from napari_nnunet_cpu.cli.report import document_of, model_line, print_document, print_notice, write_report
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.settings import (
    AUTO_FOLDS,
    ENGINES,
    PRECISIONS,
    PRESETS,
    UNCERTAINTY_KINDS,
    Settings,
    parse_box,
    parse_folds,
    parse_memory,
    parse_spacing,
)

if TYPE_CHECKING:
    from napari_nnunet_cpu.models import TrainedModel
    from napari_nnunet_cpu.predict import Result, Segmentation


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
    folds: Folds = AUTO_FOLDS,
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
    streams: Annotated[
        int | None, typer.Option(metavar="N", help="Passes at a time: 2 may be faster, and take more memory (1).")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory for the run, as 4GB, besides the image (most of the free memory)."),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="Z0:Z1,Y0:Y1,X0:X1", help="Only this part, in voxels; the same labels as in a whole run."),
    ] = None,
    run_folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep what is computed there: the same command again goes on from it."),
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Spacing in mm, instead of what the files say.")
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(metavar="Z,Y,X", help="Axes of TIFF files that name them wrongly, as depth that is called time."),
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
    uncertainty: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Also write the uncertainty of each voxel, from 0 to 1, uncalibrated."),
    ] = None,
    uncertainty_kind: Annotated[
        str,
        typer.Option(
            metavar="|".join(UNCERTAINTY_KINDS),
            help="How little the first label leads, how evenly all are likely, or how far passes disagree.",
        ),
    ] = "margin",
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
            streams=streams,
            memory=None if memory is None else parse_memory(memory),
            box=None if box is None else parse_box(box),
            postprocess=postprocess,
            probabilities=probabilities is not None,
            uncertainty=None if uncertainty is None else uncertainty_kind,
        )
        chosen_folds = parse_folds(folds)
        spacing_mm = None if spacing is None else parse_spacing(spacing)
        outputs = {
            "labels": out,
            "probabilities": probabilities,
            "uncertainty": uncertainty,
            "first_stage": save_first_stage,
            "report": report,
        }
        inputs = images if first_stage is None else [*images, first_stage]
        _check_outputs(inputs, {name: path for name, path in outputs.items() if path is not None})

        from napari_nnunet_cpu.cases import read_case, read_labels
        from napari_nnunet_cpu.cases.files import check_fractions, check_output
        from napari_nnunet_cpu.models import load_model
        from napari_nnunet_cpu.models.folder import CHECKPOINT
        from napari_nnunet_cpu.predict import Segmentation

        case = read_case(*images, axes=axes)
        given = None if first_stage is None else read_labels(first_stage, case)
        if spacing_mm is not None:
            case = case.with_spacing(spacing_mm)
        for labels in (out, save_first_stage):
            if labels is not None:
                check_output(labels, case)
        if uncertainty is not None:
            check_fractions(uncertainty, case)
        trained = [load_model(path, configuration, chosen_folds, checkpoint or CHECKPOINT) for path in model]
        if not any(member.cascade for member in trained) and (first_stage or save_first_stage):
            raise SettingsError(f"{model[0]} is no cascade: leave --first-stage and --save-first-stage away")
        if given is not None and save_first_stage is not None:
            raise SettingsError("the first stage is not run when its labels are given: leave --save-first-stage away")
        if not case.spacing_known:
            assumed = "1 mm is assumed, as nnU-Net does: use --spacing"
            typer.echo(printable(f"spacing is not stated in {images[0]}; {assumed}"), err=True)
        for member in trained:
            for stage in member.stages if given is None else (member,):
                _say(stage, visible=not as_json)
        whole = Segmentation(case, trained, settings, given, folder=run_folder)
        for note in whole.case.notes:
            typer.echo(printable(note), err=True)
        result = run(whole, visible=not as_json)
        written = {"labels": result.save(out)}
        if probabilities is not None:
            written["probabilities"] = result.save_probabilities(probabilities)
        if uncertainty is not None:
            written["uncertainty"] = result.save_uncertainty(uncertainty)
        if save_first_stage is not None and result.first_stage is not None:
            written["first_stage"] = result.first_stage.save(save_first_stage)
        whole.forget_saved()
        document = document_of(result, images, written)
        if report is not None:
            write_report(report, document)
        if as_json:
            print_json(document)
        else:
            print_document(document)


def _say(model: TrainedModel, visible: bool) -> None:
    """Say on stderr which model and folds are going to run, if `visible`, and in any case what to know of them."""
    if visible:
        typer.echo(model_line(model.describe()), err=True)
    print_notice(model.notice)


def run(segmentation: Segmentation, visible: bool) -> Result:
    """Segment a case, with its cost and then a progress bar on stderr, if `visible`."""
    from napari_nnunet_cpu.predict import run_to_end

    if visible:
        typer.echo(f"up to {segmentation.estimate.text}", err=True)
    with tile_progress(visible) as show:
        result = run_to_end(segmentation.steps(), show)
    if segmentation.saving_problem is not None:
        typer.echo(printable(segmentation.saving_problem), err=True)
    return result


def _check_outputs(inputs: list[Path], outputs: dict[str, Path]) -> None:
    """Find out before a long run what would go wrong after it."""
    from napari_nnunet_cpu.cases.files import check_fractions, check_output, check_place
    from napari_nnunet_cpu.predict.result import check_probabilities

    check = {
        "labels": check_output,
        "first_stage": check_output,
        "probabilities": check_probabilities,
        "uncertainty": check_fractions,
    }
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
