"""What one run of either side took."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STAGES = ("load", "prepare", "predict", "export")


@dataclass(frozen=True)
class Measured:
    """One run, in a fresh process.

    Attributes
    ----------
    seconds : float
        Of the whole process, from start to exit.
    stages : dict of str to float
        Seconds of each of `STAGES`; empty where the run failed.
    over_idle_mb : float or None
        Most memory held, less what the process held when its libraries were loaded; None where the system does
        not tell.
    first_final_seconds : float or None
        From the start of the process to the first slice whose labels are final; None where the run does not say.
    labels : Path or None
        The file written; None where the run failed.
    failure : str or None
        One line on why it failed.
    details : dict
        What else the run said of itself: plain values.
    """

    seconds: float
    stages: dict[str, float] = field(default_factory=dict)
    over_idle_mb: float | None = None
    first_final_seconds: float | None = None
    labels: Path | None = None
    failure: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def stage_seconds(self) -> float:
        """Of all stages."""
        return sum(self.stages.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = asdict(self)
        del values["labels"]  # a file that is gone when the bench ends
        return values
