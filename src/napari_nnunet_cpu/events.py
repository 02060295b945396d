"""Events of a run. They are plain values: the command line, the viewer and a log read the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_nnunet_cpu.boxes import Box


class Stage(StrEnum):
    """The stages of a run, in order."""

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
        The stage that begins.
    part : str
        The configuration or time point, where a run has several.
    """

    stage: Stage
    part: str = ""

    @property
    def text(self) -> str:
        """The event as a line for the user."""
        return _of(self.part, _DOING[self.stage])


@dataclass(frozen=True, slots=True)
class TileDone:
    """A tile went through the network and was added to the sums.

    A resumed run begins with one event for all tiles computed earlier, if they made labels final.

    Attributes
    ----------
    done, total : int
        Tiles computed so far, and tiles of this run.
    seconds_left : float
        Time for the remaining tiles at the speed so far, in seconds.
    part : str
        The configuration or time point, where a run has several.
    final : tuple of Box
        Boxes (start and stop along Z, Y, X of the case) whose labels became final with this tile. The boxes of a
        run never overlap. Together they cover the cropped image; everything around it is background.
    """

    done: int
    total: int
    seconds_left: float
    part: str = ""
    final: tuple[Box, ...] = ()

    @property
    def text(self) -> str:
        """The event as a line for the user."""
        return _of(self.part, f"{self.done} of {self.total} tiles, {duration(self.seconds_left)} left")


@dataclass(frozen=True, slots=True)
class Waiting:
    """The run waits in the queue, because one run computes at a time; sent again when the queue gets shorter.

    Attributes
    ----------
    part : str
        The configuration or time point that waits, where a run has several.
    ahead : int
        Runs ahead in the queue, including the one that computes.
    """

    part: str
    ahead: int

    @property
    def text(self) -> str:
        """The event as a line for the user."""
        return _of(self.part, f"waiting for the {'run' if self.ahead == 1 else f'{self.ahead} runs'} before it")


def _of(part: str, text: str) -> str:
    return f"{part}: {text}" if part else text


Event = StageStarted | TileDone | Waiting


def duration(seconds: float) -> str:
    """Seconds as text: "8 s", "3 min 20 s", "2 h 5 min"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def size(count: float) -> str:
    """Bytes as text, in powers of 1000: "850 MB", "1.2 GB"."""
    if count < 999.5e6:
        return f"{max(count / 1e6, 1):.0f} MB"
    return f"{count / 1e9:.1f} GB"
