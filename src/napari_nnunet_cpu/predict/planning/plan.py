"""Plan a run: its grid, tiles, label export, memory and cost."""

from __future__ import annotations

from dataclasses import dataclass

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.engines import threads_of
from napari_nnunet_cpu.events import duration, size
from napari_nnunet_cpu.export import LabelExport, ProbabilityExport, label_export
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.passes import passes_per_tile
from napari_nnunet_cpu.predict.planning.memory import Kind, MemoryPlan, budget_bytes, plan_memory
from napari_nnunet_cpu.predict.planning.time_model import times_of
from napari_nnunet_cpu.predict.planning.work import Work
from napari_nnunet_cpu.predict.tiles import Grid, Tile, chosen_tiles
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
        Passes through networks: tiles, times mirrored passes, times folds.
    seconds : float or None
        Time on this computer, from earlier runs or else predicted; None if neither is possible.
    bytes : int
        Estimated peak memory, on top of the memory that the process holds already.
    plan : {"dense", "rows", "disk"}
        Where the sums are held, see `MemoryPlan`; for several runs, the plan of the largest.
    """

    tiles: int
    passes: int
    seconds: float | None
    bytes: int
    plan: Kind

    @property
    def text(self) -> str:
        """The cost as a line for the user."""
        time = "time not known before the first run" if self.seconds is None else f"about {duration(self.seconds)}"
        return f"{self.tiles} tiles, {self.passes} passes, {time}, about {size(self.bytes)} of memory ({self.plan})"


@dataclass(frozen=True)
class RunPlan:
    """The plan of a run, made before any large array."""

    grid: Grid
    export: LabelExport
    tiles: tuple[Tile, ...]  # the chosen tiles, in grid order
    budget: int  # bytes
    memory: MemoryPlan  # may exceed the budget, see `check_budget`
    estimate: Estimate


def plan_run(
    case: Case, model: TrainedModel, settings: Settings, geometry: Geometry, channels: int, any_order: bool
) -> RunPlan:
    """Plan one run; `channels` is the number of accumulated channels, `any_order` whether tiles come in any order.

    Raises `ModelError` if the resampling of the plans can't lead back to the image, and `SettingsError` if the box
    exceeds the image.
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
    """The label export of a run: from probabilities if the settings ask for them, else from logits."""
    if settings.probabilities:
        return ProbabilityExport(model, geometry)
    return label_export(model, geometry, threads_of(settings))
