"""The record of a run for its report: what it did, with what, and how long it took."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_nnunet_cpu.predict.run import Run


def record_of(run: Run) -> dict[str, Any]:
    """What a run did so far: plain values, ready for JSON."""
    engine, plan = run.engine, run.plan
    return {
        "model": run.model.describe() | {"weights_sha256": run.model.weights_sha256},
        "prepared_shape": list(run.geometry.shape),
        "engine": engine.name,
        "engine_reason": engine.reason,
        "device": engine.device,
        "precision": engine.precision,
        "agreement": None if engine.agreement is None else asdict(engine.agreement),
        "threads": engine.threads,
        "streams": engine.streams,
        "tiles": len(run.tiles),
        "tiles_done": run.tiles_done,
        "tiles_taken_up": run.tiles_resumed,
        "passes_per_tile": run.passes_per_tile,
        "classes": run.model.labels.heads,
        "channels_summed": run.channels,
        "memory": {
            "plan": plan.memory.kind,
            "rows": plan.memory.depth,
            "probabilities_on_disk": plan.memory.probabilities_on_disk,
        },
        "estimate": asdict(plan.estimate) | {"budget_bytes": plan.budget, "bytes_before": run.bytes_before},
        "first_final_seconds": run.first_final_seconds,
        "seconds": {name: round(seconds, 3) for name, seconds in run.seconds.items()},
    }
