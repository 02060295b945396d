"""The record of a run for its report: model, engine, tiles, memory, estimate and seconds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.predict.planning import Times, Work, remember_times
from napari_nnunet_cpu.predict.setup import RunParts
from napari_nnunet_cpu.settings import Settings


def record_of(model: TrainedModel, parts: RunParts, **measured: Any) -> dict[str, Any]:
    """The record of a run so far as plain values for JSON, with the entries `measured`."""
    engine, plan, tiles = parts.engine.get(), parts.plan, parts.tiles
    return {
        "model": model.describe() | {"weights_sha256": model.weights_sha256},
        "prepared_shape": list(parts.geometry.shape),
        "engine": engine.name,
        "engine_reason": engine.reason,
        "device": engine.device,
        "precision": engine.precision,
        "agreement": None if engine.agreement is None else asdict(engine.agreement),
        "threads": engine.threads,
        "streams": engine.streams,
        "tiles": len(tiles.chosen),
        "tiles_done": tiles.done_count,
        "tiles_resumed": parts.tiles_resumed,
        "passes_per_tile": parts.passes_per_tile,
        "classes": model.labels.heads,
        "accumulated_channels": parts.channels,
        "memory": {
            "plan": plan.memory.kind,
            "rows": plan.memory.depth,
            "probabilities_on_disk": plan.memory.probabilities_on_disk,
        },
        "estimate": asdict(plan.estimate) | {"budget_bytes": plan.budget},
        "bytes_before": parts.bytes_before,
        **measured,
    }


def remember_run(
    case: Case, model: TrainedModel, settings: Settings, parts: RunParts, seconds: dict[str, float]
) -> None:
    """Remember the seconds of every stage of a complete run for later estimates, if they are typical."""
    if not parts.engine.given and settings.box is None:
        passes = (len(parts.tiles.done) - parts.tiles_resumed) * parts.passes_per_tile
        work = Work.counted(case, model, settings, parts.geometry, passes)
        remember_times(model, settings, Times.measured(seconds, work))
