"""The time and memory of one run of either program."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STAGES = ("load", "prepare", "predict", "export")


@dataclass(frozen=True)
class Measured:
    """One run, in a fresh process; `failure` is one line on why it failed."""

    seconds: float  # from the start of the process to its exit
    stages: dict[str, float] = field(default_factory=dict)  # seconds of each of STAGES; empty after a failure
    over_idle_mb: float | None = None  # peak minus idle memory; None if the system does not tell
    first_final_seconds: float | None = None  # from the start of the process to the first slice with final labels
    labels: Path | None = None
    failure: str | None = None
    details: dict[str, Any] = field(default_factory=dict)  # the rest of the run's report: plain values

    @property
    def stage_seconds(self) -> float:
        """Seconds of all stages together."""
        return sum(self.stages.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = asdict(self)
        del values["labels"]  # because the file is deleted when the bench ends
        return values
