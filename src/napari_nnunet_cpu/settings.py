"""The options of a run, and the presets that set them."""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.errors import SettingsError

PRESETS = ("exact", "fast", "draft")
ENGINES = ("auto", "torch", "openvino")
PRECISIONS = ("f32", "int8")
UNCERTAINTY_KINDS = ("margin", "entropy", "disagreement")
AUTO_FOLDS = "auto"  # every numbered fold, or fold_all if there are none
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgt])(i?)b|b?)", re.IGNORECASE | re.ASCII)
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of one run. Start from a preset and override single options.

    Attributes
    ----------
    preset : {"exact", "fast", "draft"}
        The preset that the options started from; recorded with the result.
    engine : {"auto", "torch", "openvino"}
        Computes the network. OpenVINO runs on the CPU alone, torch on every device. "auto" takes OpenVINO
        on the CPU if it is installed and supports the network, else torch.
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps".
    precision : {"f32", "int8"}
        Numbers that the network computes with. "int8" applies if the CPU gains from it and the labels of
        test crops of this image agree with those of f32. Otherwise the run takes f32 and reports why.
    agreement : float
        Lowest Dice of any class, in [0, 1], that int8 must reach against f32. 0 takes int8 in any case.
    step : float
        Distance of neighbouring tiles as a share of the patch, in (0, 1]. nnU-Net uses 0.5.
    mirror : bool
        Average over mirrored patches, along the axes that the model allows.
    cover : bool
        Compute only as many tiles of the grid as cover the image once.
    box : tuple of (int, int) or None
        Segment only this box: start and stop along Z, Y, X of the case. The labels inside equal those of
        a run on the whole image; outside the box they are background.
    threads : int or None
        CPU threads of the network and of the export. None takes every core that this process may use.
    streams : int or None
        Passes that run at the same time (OpenVINO only). They share the threads, and each needs memory of
        its own. None takes one; with 16 cores or more one per 8 cores, at most 4, if memory allows.
    memory : int or None
        Budget in bytes, on top of the memory that the process holds when the run begins, including the
        image. None takes most of the free memory.
    probabilities : bool
        Also keep the probabilities: 4 bytes per voxel of the image and class, on disk if memory is short.
    uncertainty : {"margin", "entropy", "disagreement"} or None
        Also measure the uncertainty of each voxel, from 0 to 1, uncalibrated. Margin: how little the most
        probable label leads the second. Entropy: how evenly the probabilities are spread. Disagreement: how
        much folds and mirrored passes differ.
    postprocess : bool
        Apply the postprocessing that nnU-Net found for the model (postprocessing.json). nnU-Net's
        own prediction does not apply it.

    Raises
    ------
    SettingsError
        When an option has an invalid value.
    """

    preset: str = "exact"
    engine: str = "auto"
    device: str = "auto"
    precision: str = "f32"
    agreement: float = 0.97
    step: float = 0.5
    mirror: bool = True
    cover: bool = False
    box: Box | None = None
    threads: int | None = None
    streams: int | None = None
    memory: int | None = None
    probabilities: bool = False
    uncertainty: str | None = None
    postprocess: bool = False

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise SettingsError(f"unknown preset {self.preset!r}: choose one of {', '.join(PRESETS)}")
        if self.engine not in ENGINES:
            raise SettingsError(f"unknown engine {self.engine!r}: choose one of {', '.join(ENGINES)}")
        if not _DEVICE.fullmatch(self.device):
            raise SettingsError(f"unknown device {self.device!r}: choose auto, cpu, cuda, cuda:N or mps")
        if self.engine == "openvino" and self.device not in ("auto", "cpu"):
            raise SettingsError(f"engine openvino computes on the CPU, not on {self.device}: choose torch or auto")
        if self.precision not in PRECISIONS:
            raise SettingsError(f"unknown precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}")
        if not 0 <= self.agreement <= 1:
            raise SettingsError(f"agreement is {self.agreement}: it must be at least 0 and at most 1, as 0.97")
        if not 0 < self.step <= 1:
            raise SettingsError(f"step is {self.step}: it must be above 0 and at most 1 (nnU-Net uses 0.5)")
        if self.box is not None and not _is_box(self.box):
            raise SettingsError(f"box is {self.box}: it must be a start and a larger stop along Z, Y and X, from 0")
        if self.box is not None:
            object.__setattr__(self, "box", Box(*((start, stop) for start, stop in self.box)))
        if self.uncertainty is not None and self.uncertainty not in UNCERTAINTY_KINDS:
            raise SettingsError(
                f"unknown uncertainty {self.uncertainty!r}: choose one of {', '.join(UNCERTAINTY_KINDS)}, or None"
            )
        if self.threads is not None and self.threads < 1:
            raise SettingsError(f"threads is {self.threads}: it must be at least 1, or None for all cores")
        if self.streams is not None and self.streams < 1:
            raise SettingsError(f"streams is {self.streams}: it must be at least 1, or None to fit the threads")
        if self.memory is not None and self.memory < 1:
            raise SettingsError(
                f"memory is {self.memory} bytes: it must be at least 1, or None for most of the free memory"
            )

    @classmethod
    def exact(cls, **options: Any) -> Settings:
        """nnU-Net's own labels: its grid, step 0.5, all mirroring that the model allows."""
        return replace(cls(), **options)

    @classmethod
    def fast(cls, **options: Any) -> Settings:
        """The same grid without mirroring, in int8 if it agrees with f32: much faster, slightly different labels."""
        return replace(cls(preset="fast", mirror=False, precision="int8"), **options)

    @classmethod
    def draft(cls, **options: Any) -> Settings:
        """A first look: like fast, but with only as many tiles as cover the image once."""
        return replace(cls.fast(preset="draft", cover=True), **options)

    @classmethod
    def from_preset(cls, preset: str, **options: Any) -> Settings:
        """Settings of a preset, with `options` on top. Options that are None keep the value of the preset.

        Raises
        ------
        SettingsError
            When no preset has this name.
        """
        if preset not in PRESETS:
            raise SettingsError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
        chosen = {name: value for name, value in options.items() if value is not None}
        settings: Settings = getattr(cls, preset)(**chosen)
        return settings

    @property
    def needs_all_sums(self) -> bool:
        """Whether more than labels, or labels of a part that may grow, are made of the sums of tiles."""
        return self.cover or self.probabilities or self.box is not None or self.uncertainty is not None

    def as_dict(self) -> dict[str, Any]:
        """The options as plain values, for reports and provenance."""
        return asdict(self)


def parse_folds(text: str) -> str | tuple[str, ...]:
    """Parse folds that a user typed: "0,1,2", "all" for nnU-Net's fold_all, or "auto", which stays as it is."""
    if text.strip() == AUTO_FOLDS:
        return AUTO_FOLDS
    folds = tuple(part.strip() for part in text.split(","))
    if not all(fold.isdigit() or fold == "all" for fold in folds):
        raise SettingsError(f"folds are {text!r}; write auto, all, or numbers with commas, as 0,1,2")
    return folds


def parse_spacing(text: str) -> tuple[float, float, float]:
    """Parse a spacing (Z, Y, X) in mm that a user typed: "2.5, 0.8, 0.8", or "0.8" for all three."""
    parts = text.split(",")
    try:
        z, y, x = (float(part) for part in (parts * 3 if len(parts) == 1 else parts))
    except ValueError:
        z = y = x = math.nan
    if not all(math.isfinite(length) and length > 0 for length in (z, y, x)):
        raise SettingsError(
            f"spacing is {text!r}; write three positive numbers Z,Y,X in mm, as 2.5,0.8,0.8, or one for all"
        )
    return z, y, x


def parse_box(text: str) -> Box:
    """Parse a box that a user typed, start and stop along Z, Y, X from 0: "40:80, 60:160, 60:160"."""
    with contextlib.suppress(ValueError):
        box = Box.parse(text)
        if _is_box(box):
            return box
    raise SettingsError(f"box is {text!r}; write start:stop along Z, Y and X, as 40:80,60:160,60:160")


def _is_box(box: Box) -> bool:
    return len(box) == 3 and all(len(side) == 2 and 0 <= side[0] < side[1] for side in box)


def parse_memory(text: str) -> int:
    """Parse bytes that a user typed: "4GB" (1000 to the third), "4GiB" (1024 to the third), "500MB", "4000000000"."""
    found = _SIZE.fullmatch(text.strip())
    prefix, binary = (found[2] or "", found[3]) if found else ("", "")
    size = int(float(found[1]) * (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " ")) if found else 0
    if size < 1:
        raise SettingsError(f"memory is {text!r}; write a size with its unit, as 4GB, 500MB or 4GiB")
    return size
