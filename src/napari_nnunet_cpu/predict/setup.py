"""Set up a run: geometry, plan, prepared image, engine, output and tiles, each made from the parts before it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import Engine
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.events import Stage
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.output import Output
from napari_nnunet_cpu.predict.passes import Patches, accumulated_channels, passes_per_tile
from napari_nnunet_cpu.predict.planning import RunPlan, check_budget, plan_run
from napari_nnunet_cpu.predict.resume import RunFile, RunSaver, describe_run, identity_of
from napari_nnunet_cpu.predict.run_engine import RunEngine
from napari_nnunet_cpu.predict.tiles import RunTiles
from napari_nnunet_cpu.predict.uncertainty import check_passes
from napari_nnunet_cpu.prepare import Geometry, crop, prepare
from napari_nnunet_cpu.resources import Stopwatch, resident_bytes
from napari_nnunet_cpu.settings import Settings


@dataclass(frozen=True, eq=False)
class RunParts:
    """The parts of a run."""

    geometry: Geometry
    plan: RunPlan
    channels: int  # number of accumulated channels
    patches: Patches
    engine: RunEngine
    output: Output
    tiles: RunTiles
    passes_per_tile: int
    bytes_before: int  # memory of the process before the image was prepared
    tiles_resumed: int  # tiles that an earlier run had saved
    saver: RunSaver | None  # None for a run that is not saved


def set_up(
    case: Case,
    model: TrainedModel,
    settings: Settings,
    engine: Engine | None,
    first_stage: npt.NDArray[Any] | None,
    any_order: bool,
    folder: Path | None,
    stopwatch: Stopwatch,
) -> RunParts:
    """Make the parts of a run; parameters and errors are those of `Run`."""
    bytes_before = resident_bytes()
    passes = passes_per_tile(model, settings, None if engine is None else engine.folds)
    check_passes(settings, passes)
    channels = accumulated_channels(model, settings, engine)
    file = None
    if folder is not None:
        file = RunFile(folder, identity_of(case, model, settings, first_stage, channels))
        # Sums of finished rows may be forgotten only if nothing but labels is made from them.
        any_order |= settings.needs_all_sums or not file.about.get("in_rows", True)
    saver, done = None, set[int]()
    try:
        with stopwatch.timing(Stage.PREPARE):
            cropped = crop(case, model)
            geometry = cropped.geometry
            plan = plan_run(case, model, settings, geometry, channels, any_order)
            check_budget(plan.memory, plan.budget, case, settings)
            image = prepare(case, model, first_stage, cropped).image
        patches = Patches(image, plan.grid, flat=len(model.configuration.patch_size) == 2)
        run_engine = RunEngine(model, settings, patches, plan.memory.streams, stopwatch, engine)
        output = Output(model, settings, geometry, plan, channels, run_engine.head_layer)
        in_rows = plan.memory.kind == "rows"
        if file is not None:
            describe_run(file, case, model, len(plan.grid), in_rows)
            saver, done = output.resume(file)
    except MemoryError as error:
        raise CaseError(
            f"{case.name} does not fit into memory at the model's spacing: {error}; close other programs, "
            "cut the image, or check its spacing"
        ) from error
    finally:
        if file is not None and saver is None:
            file.close()
    tiles = RunTiles(plan.grid, plan.export, geometry, plan.tiles, in_rows, done)
    output.choose(settings, tiles.chosen)
    return RunParts(
        geometry, plan, channels, patches, run_engine, output, tiles, passes, bytes_before, len(done), saver
    )
