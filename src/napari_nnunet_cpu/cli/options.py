"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Configuration = Annotated[
    str | None,
    typer.Option("-c", "--configuration", metavar="NAME", help="Chooses the model if the folder holds several."),
]
Folds = Annotated[
    str,
    typer.Option(
        "-f",
        "--folds",
        metavar="auto|all|0,1,2",
        help="Folds to average: auto takes every numbered fold, or fold_all if there are none; all is fold_all.",
    ),
]
Checkpoint = Annotated[
    str | None,
    typer.Option("--checkpoint", metavar="NAME", help="File in the fold folders (checkpoint_final.pth)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")]
ModelFolders = Annotated[
    list[Path],
    typer.Option(
        "-m",
        "--model",
        metavar="MODEL",
        help="Model folder, fold folder or exported zip; the probabilities of several are averaged.",
    ),
]
