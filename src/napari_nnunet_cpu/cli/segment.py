"""`nnunet-cpu segment`: segment one case."""

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
            metavar="IMAGE", help="NIfTI, TIFF, ITK (.nrrd, .mha), PNG …; a file per channel, in the model's order."
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
        str, typer.Option(metavar="|".join(PRESETS), help="exact gives nnU-Net's own labels; the others are faster.")
    ] = "exact",
    engine: Annotated[str, typer.Option(metavar="|".join(ENGINES), help="Computes the network.")] = "auto",
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="auto takes a GPU if there is one.")
    ] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(PRECISIONS), help="int8 applies if it is faster and agrees (default: set by the preset)."
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
        typer.Option("--mirror/--no-mirror", help="Average over mirrored patches (default: set by the preset)."),
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="CPU threads (every core).")] = None,
    streams: Annotated[
        int | None,
        typer.Option(metavar="N", help="Passes at the same time: 2 may be faster, but needs more memory (1)."),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory budget beside the image, as 4GB (most of the free memory)."),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="Z0:Z1,Y0:Y1,X0:X1", help="Segment only this box, in voxels; the labels stay the same."),
    ] = None,
    run_folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Save the run there while it computes; the same command resumes it."),
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Spacing in mm, instead of that in the files.")
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(metavar="Z,Y,X", help="Axes of TIFF files that name them wrongly, such as a depth called time."),
    ] = None,
    first_stage: Annotated[
        Path | None,
        typer.Option(metavar="LABELS", help="For a cascade: labels of its first stage, which then does not run."),
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
            help="How little the best label leads, how evenly probabilities are spread, or how much passes disagree.",
        ),
    ] = "margin",
    report: Annotated[Path | None, typer.Option(metavar="OUT.json", help="Also write a report of the run.")] = None,
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

        from napari_nnunet_cpu.cases import check_fractions, check_output, read_case, read_labels
        from napari_nnunet_cpu.models import CHECKPOINT, load_model
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
            raise SettingsError(f"{model[0]} is not a cascade: leave out --first-stage and --save-first-stage")
        if given is not None and save_first_stage is not None:
            raise SettingsError("the first stage does not run when its labels are given: leave out --save-first-stage")
        if not case.spacing_known:
            assumed = "1 mm is assumed, as in nnU-Net: use --spacing"
            typer.echo(printable(f"{images[0]} states no spacing; {assumed}"), err=True)
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
        whole.files.remove()
        document = document_of(result, images, written, whole.estimate)
        if report is not None:
            write_report(report, document)
        if as_json:
            print_json(document)
        else:
            print_document(document)


def _say(model: TrainedModel, visible: bool) -> None:
    """Print the notice of a model on stderr and, if `visible`, its name and folds."""
    if visible:
        typer.echo(model_line(model.describe()), err=True)
    print_notice(model.notice)


def run(segmentation: Segmentation, visible: bool) -> Result:
    """Segment a case; if `visible`, show its cost and then a progress bar on stderr."""
    from napari_nnunet_cpu.predict import run_to_end

    cost = segmentation.estimate  # before the run, because that remembers its own times
    if visible:
        typer.echo(cost.text, err=True)
    with tile_progress(visible) as show:
        result = run_to_end(segmentation, show)
    if segmentation.files.problem is not None:
        typer.echo(printable(segmentation.files.problem), err=True)
    return result


def _check_outputs(inputs: list[Path], outputs: dict[str, Path]) -> None:
    """Check all output paths before the run, so that it does not fail at its end."""
    from napari_nnunet_cpu.cases import check_fractions, check_output, check_place
    from napari_nnunet_cpu.predict import check_probabilities

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
                raise SettingsError(f"{path} is also an input: choose another output file")
