"""What a run is going to do: which tiles, how labels are made, what is held in memory, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import threads_of
from napari_nnunet_cpu.events import duration, size
from napari_nnunet_cpu.export import LabelExport, ProbabilityExport, label_export
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.passes.mirroring import passes_per_tile
from napari_nnunet_cpu.predict.planning.memory import Kind, MemoryPlan, budget_bytes, plan_memory
from napari_nnunet_cpu.predict.planning.time_model import Work, times_of
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile
from napari_nnunet_cpu.predict.tiles.selection import chosen_tiles
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.settings import Settings


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a segmentation.

    Attributes
    ----------
    tiles : int
        Tiles of all runs; fewer if the image is cropped.
    passes : int
        Times a network is run: tiles, times mirrored copies, times folds.
    seconds : float or None
        On this computer: as earlier runs took, else predicted; None where neither is possible.
    bytes : int
        Memory at the peak, on top of what the process holds before, about.
    plan : {"dense", "rows", "disk"}
        What is held at a time of the sums, see `MemoryPlan`; of several runs that of the largest.
    """

    tiles: int
    passes: int
    seconds: float | None
    bytes: int
    plan: Kind

    @property
    def text(self) -> str:
        """The cost, for people."""
        time = "time not known before the first run" if self.seconds is None else f"about {duration(self.seconds)}"
        return f"{self.tiles} tiles, {self.passes} passes, {time}, about {size(self.bytes)} of memory ({self.plan})"


@dataclass(frozen=True)
class RunPlan:
    """A run before anything of its size is made.

    Attributes
    ----------
    grid : Grid
        The sliding window over the prepared image.
    export : LabelExport
        How labels are made.
    tiles : tuple of Tile
        Those that the settings choose, in grid order.
    budget : int
        Bytes that the run may take.
    memory : MemoryPlan
        What is held at a time; it may exceed the budget, see `check_budget`.
    estimate : Estimate
        The cost.
    """

    grid: Grid
    export: LabelExport
    tiles: tuple[Tile, ...]
    budget: int
    memory: MemoryPlan
    estimate: Estimate


def plan_run(
    case: Case, model: TrainedModel, settings: Settings, geometry: Geometry, channels: int, any_order: bool
) -> RunPlan:
    """Plan one run.

    Parameters
    ----------
    case, model, settings
        As `Run` takes them.
    geometry : Geometry
        Where the image lies for the model.
    channels : int
        How many are summed.
    any_order : bool
        Whether tiles may come in any order.

    Raises
    ------
    ModelError
        When the plans do not lead back to the image.
    SettingsError
        When the box reaches out of the case.
    """
    grid = Grid.for_image(geometry.shape, model.configuration.patch_size, settings.step)
    export = export_of(model, settings, geometry)
    tiles = chosen_tiles(grid, export, geometry, settings)
    budget = budget_bytes(settings)
    memory = plan_memory(case, model, settings, geometry, grid, export, budget, any_order, channels, len(tiles))
    passes = len(tiles) * passes_per_tile(model, settings)
    times = times_of(model, settings)
    seconds = None if times is None else times.of(Work.counted(case, model, settings, geometry, passes))
    estimate = Estimate(len(tiles), passes, seconds, memory.bytes, memory.kind)
    return RunPlan(grid, export, tiles, budget, memory, estimate)


def export_of(model: TrainedModel, settings: Settings, geometry: Geometry) -> LabelExport:
    """How the run makes labels: from logits, or by way of probabilities where they are asked for."""
    if settings.probabilities:
        return ProbabilityExport(model, geometry)
    return label_export(model, geometry, threads_of(settings))
