"""What a run tells its listeners. Plain values: the command line, Qt and a log read the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """The stages of a run, in their order."""

    PREPARE = "prepare"
    LOAD = "load"
    PREDICT = "predict"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage of the run begins."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class TileDone:
    """A tile has gone through the network and was added to the sums.

    Attributes
    ----------
    done, total : int
        Tiles computed so far, and tiles of this run.
    seconds_left : float
        Time the remaining tiles take at the pace so far, in seconds.
    """

    done: int
    total: int
    seconds_left: float


Event = StageStarted | TileDone
