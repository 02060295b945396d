"""`nnunet-cpu demo`: segment the sample image with the sample model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_nnunet_cpu.cli.exits import exit_codes, print_json
from napari_nnunet_cpu.cli.options import AsJson
from napari_nnunet_cpu.cli.report import document_of, print_document
from napari_nnunet_cpu.cli.segment import run
from napari_nnunet_cpu.samples import NOT_FOR_MEDICAL_USE, sample_image, sample_model
from napari_nnunet_cpu.settings import Settings

SETTINGS = Settings.exact()


def demo_command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the labels and the picture.")] = Path(
        "nnunet-cpu-demo"
    ),
    viewer: Annotated[bool, typer.Option("--viewer", help="Then open image and labels in napari.")] = False,
    as_json: AsJson = False,
) -> None:
    """Segment the sample image with the sample model; no other files are needed."""
    with exit_codes(as_json):
        from napari_nnunet_cpu.cases import read_case
        from napari_nnunet_cpu.cli.picture import write_picture
        from napari_nnunet_cpu.models import load_model
        from napari_nnunet_cpu.predict import Segmentation

        out.mkdir(parents=True, exist_ok=True)
        image = sample_image()
        case = read_case(image)
        segmentation = Segmentation(case, load_model(sample_model()), SETTINGS)
        result = run(segmentation, visible=not as_json)
        labels = result.save(out / f"{case.name}_labels.nii.gz")
        picture = write_picture(out / f"{case.name}_labels.png", result, NOT_FOR_MEDICAL_USE)
        document = document_of(result, [image], {"labels": labels}, segmentation.estimate) | {
            "picture": str(picture),
            "note": NOT_FOR_MEDICAL_USE,
        }
        if as_json:
            print_json(document)
        else:
            print_document(document)
            typer.echo(f"picture: {picture}")
            typer.echo(NOT_FOR_MEDICAL_USE)
        if viewer:
            from napari_nnunet_cpu.viewer.scripting import open_result

            open_result(case, result)
