"""`nnunet-cpu inspect`: describe a model and its cost on this computer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from napari_nnunet_cpu.cli.exits import exit_codes, print_json, printable
from napari_nnunet_cpu.cli.options import AsJson, Checkpoint, Configuration, Folds
from napari_nnunet_cpu.cli.report import print_notice
from napari_nnunet_cpu.resources import usable_cores
from napari_nnunet_cpu.settings import AUTO_FOLDS, Settings, parse_folds

if TYPE_CHECKING:
    from napari_nnunet_cpu.models import TrainedModel


def inspect_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, fold folder or exported zip.")],
    configuration: Configuration = None,
    folds: Folds = AUTO_FOLDS,
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """Describe a model, its requirements and its cost on this computer."""
    with exit_codes(as_json):
        chosen_folds = parse_folds(folds)

        from napari_nnunet_cpu.models import CHECKPOINT, load_model

        trained = load_model(model, configuration, chosen_folds, checkpoint or CHECKPOINT)
        for stage in trained.stages:
            print_notice(stage.notice)
        document = describe(trained)
        if as_json:
            print_json(document)
        else:
            _print_tables(document)


def describe(model: TrainedModel) -> dict[str, Any]:
    """The description of a model and its cost on this computer, as plain values for JSON.

    It adds "passes_per_tile" ("mirrored", "plain") and "machine": "engine" and "device" of a run and the "reason",
    "precision" of the preset fast and its "precision_reason", all "devices", and "cores".
    """
    from napari_nnunet_cpu.engines import available_devices, plan_engine

    plain = len(model.folds)
    plan = plan_engine(model, Settings.fast())  # exact differs only in precision
    return model.describe() | {
        "passes_per_tile": {"mirrored": plain * 2 ** len(model.mirror_axes), "plain": plain},
        "machine": {
            "engine": plan.engine,
            "device": plan.device,
            "reason": plan.reason,
            "precision": plan.precision,
            "precision_reason": plan.precision_reason,
            "devices": [{"name": device.name, "label": device.label} for device in available_devices()],
            "cores": usable_cores(),
        },
    }


def _print_tables(document: dict[str, Any]) -> None:
    passes, machine = document["passes_per_tile"], document["machine"]
    axes = "Z, Y, X"[-3 * len(document["patch"]) + 2 :]
    mirror = f"axes {_listed(document['mirror_axes'])}" if document["mirror_axes"] else "not trained for it"
    _print_table(
        document["name"],
        {
            "configuration": document["configuration"]
            + (f", after {document['first_stage']} (a cascade)" if document["first_stage"] else ""),
            "network": document["network"],
            "trainer, plans": f"{document['trainer']}, {document['plans']}",
            "folds": f"{_listed(document['folds'])} ({document['checkpoint']})",
            "channels": _listed(document["channels"]),
            "normalization": _listed(document["normalization"]),
            "labels" + (", overlapping" if document["regions"] else ""): _listed(
                [f"{value} {name}" for value, name in document["labels"].items()]
            ),
            f"patch ({axes})": " x ".join(map(str, document["patch"])),
            f"spacing ({axes})": " x ".join(f"{length:g}" for length in document["spacing_mm"]) + " mm",
            "mirroring": mirror,
            "passes per tile": f"{passes['mirrored']} with mirroring, {passes['plain']} without",
            "folder": document["folder"],
        },
    )
    _print_table(
        "this machine",
        {
            "devices": _listed([f"{device['name']} ({device['label']})" for device in machine["devices"]]),
            "chosen": f"{machine['engine']} on {machine['device']}: {machine['reason']}",
            "preset fast": machine["precision_reason"],
            "usable cores": str(machine["cores"]),
        },
    )


def _print_table(title: str, rows: dict[str, str]) -> None:
    table = Table(title=Text(printable(title), style="bold"), title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(printable(value)))
    Console().print(table)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
