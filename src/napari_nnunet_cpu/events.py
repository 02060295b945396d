"""What a run tells its listeners. Plain values: the command line, Qt and a log read the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_nnunet_cpu.boxes import Bounds


class Stage(StrEnum):
    """The stages of a run, in their order."""

    PREPARE = "prepare"
    LOAD = "load"
    PREDICT = "predict"
    EXPORT = "export"


_DOING = {
    Stage.PREPARE: "preparing the image",
    Stage.LOAD: "loading the weights",
    Stage.PREDICT: "running the network",
    Stage.EXPORT: "making the labels",
}


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage of the run begins.

    Attributes
    ----------
    stage : Stage
        Which.
    part : str
        Of what, where there is more than one thing to do: a configuration, a time point.
    """

    stage: Stage
    part: str = ""

    @property
    def text(self) -> str:
        """What is going on, for people."""
        return _of(self.part, _DOING[self.stage])


@dataclass(frozen=True, slots=True)
class TileDone:
    """A tile has gone through the network and was added to the sums.

    A run that goes on begins with one for the tiles that were there, where labels are final by now.

    Attributes
    ----------
    done, total : int
        Tiles computed so far, and tiles of this run.
    seconds_left : float
        Time the remaining tiles take at the pace so far, in seconds.
    part : str
        Of what, where there is more than one thing to do: a configuration, a time point.
    final : tuple of Bounds
        Boxes, start and stop along Z, Y, X of the case, whose labels are now those that the finished run will
        have. The boxes of a run do not overlap, and leave out only what cropping took away, which is background.
    """

    done: int
    total: int
    seconds_left: float
    part: str = ""
    final: tuple[Bounds, ...] = ()

    @property
    def text(self) -> str:
        """How far it is, for people."""
        return _of(self.part, f"{self.done} of {self.total} tiles, {duration(self.seconds_left)} left")


@dataclass(frozen=True, slots=True)
class Waiting:
    """The run waits for its turn, since one computes at a time; or goes on waiting, with fewer before it.

    Attributes
    ----------
    part : str
        What waits, where there is more than one thing to do.
    ahead : int
        Runs before it, the one that computes included.
    """

    part: str
    ahead: int

    @property
    def text(self) -> str:
        """What is going on, for people."""
        return _of(self.part, f"waiting for the {'run' if self.ahead == 1 else f'{self.ahead} runs'} before it")


def _of(part: str, text: str) -> str:
    return f"{part}: {text}" if part else text


Event = StageStarted | TileDone | Waiting


def duration(seconds: float) -> str:
    """Seconds as people say them: "8 s", "3 min 20 s", "2 h 5 min"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def size(count: float) -> str:
    """Bytes as people say them, in powers of 1000: "850 MB", "1.2 GB"."""
    if count < 999.5e6:
        return f"{max(count / 1e6, 1):.0f} MB"
    return f"{count / 1e9:.1f} GB"
