"""What the user may choose about a run, and the presets that choose for them."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_nnunet_cpu.errors import SettingsError

if TYPE_CHECKING:
    from napari_nnunet_cpu.boxes import Bounds

PRESETS = ("exact", "fast", "draft")
ENGINES = ("auto", "torch", "openvino")
PRECISIONS = ("f32", "int8")
UNCERTAINTY_KINDS = ("margin", "entropy", "disagreement")
AUTO_FOLDS = "auto"  # every numbered fold, or fold_all where there are none
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgt])(i?)b|b?)", re.IGNORECASE | re.ASCII)
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of one run; make them with a preset and override what you like.

    Attributes
    ----------
    preset : {"exact", "fast", "draft"}
        Where the options started from; recorded with the result.
    engine : {"auto", "torch", "openvino"}
        What computes the network: OpenVINO on the CPU alone, torch anywhere. "auto" is OpenVINO on
        the CPU where it is installed and can express the network, else torch.
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps".
    precision : {"f32", "int8"}
        Of the network. "int8" is taken where the CPU gains from it and the labels of parts of this
        very image agree with those of f32; elsewhere the run is made in f32, and says why.
    agreement : float
        How far they must agree: the least Dice of any class, in [0, 1]. 0 takes int8 however little they do.
    step : float
        Distance of neighbouring tiles as a share of the patch, in (0, 1]. nnU-Net uses 0.5.
    mirror : bool
        Average over the mirrored patches that the model allows.
    cover : bool
        Compute only as many tiles of the grid as cover the image once.
    box : tuple of (int, int) or None
        Segment only this part: start and stop along Z, Y, X of the case. The labels in it are those of
        a run on the whole image; around it there are none.
    threads : int or None
        CPU threads of the network and of the export; None takes every core this process may use.
    streams : int or None
        Passes through the network at a time, which share the threads; each has memory of its own. OpenVINO alone takes
        more than one. None takes one, and on 16 cores or more one for every 8 up to 4, where there is memory for it.
    memory : int or None
        Bytes that the run may take on top of what the process holds when it begins, which is the
        image, too. None takes most of what is free.
    probabilities : bool
        Keep the probabilities, too: 4 bytes a voxel of the image and class, on disk where memory is short.
    uncertainty : {"margin", "entropy", "disagreement"} or None
        Measure, too, the uncertainty of each voxel, from 0 to 1, uncalibrated: how little the likeliest label leads
        the next, how evenly the probabilities are spread, or how far folds and mirrored passes disagree.
    postprocess : bool
        Apply the postprocessing that nnU-Net found for the model (postprocessing.json). nnU-Net's
        own prediction does not.

    Raises
    ------
    SettingsError
        When a value is not one of those above.
    """

    preset: str = "exact"
    engine: str = "auto"
    device: str = "auto"
    precision: str = "f32"
    agreement: float = 0.97
    step: float = 0.5
    mirror: bool = True
    cover: bool = False
    box: Bounds | None = None
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
        if self.uncertainty is not None and self.uncertainty not in UNCERTAINTY_KINDS:
            raise SettingsError(
                f"unknown uncertainty {self.uncertainty!r}: choose one of {', '.join(UNCERTAINTY_KINDS)}, or None"
            )
        if self.threads is not None and self.threads < 1:
            raise SettingsError(f"threads is {self.threads}: it must be at least 1, or None for all cores")
        if self.streams is not None and self.streams < 1:
            raise SettingsError(f"streams is {self.streams}: it must be at least 1, or None for what suits the threads")
        if self.memory is not None and self.memory < 1:
            raise SettingsError(
                f"memory is {self.memory} bytes: it must be at least 1, or None for most of what is free"
            )

    @classmethod
    def exact(cls, **options: Any) -> Settings:
        """nnU-Net's own labels: its grid, step 0.5, mirroring as the model allows."""
        return replace(cls(), **options)

    @classmethod
    def fast(cls, **options: Any) -> Settings:
        """The same grid without mirroring, in int8 where it agrees with f32: much faster, slightly different labels."""
        return replace(cls(preset="fast", mirror=False, precision="int8"), **options)

    @classmethod
    def draft(cls, **options: Any) -> Settings:
        """A first picture: as fast, with only as many tiles of the grid as cover the image."""
        return replace(cls.fast(preset="draft", cover=True), **options)

    @classmethod
    def from_preset(cls, preset: str, **options: Any) -> Settings:
        """Settings of the preset called `preset`, with `options` on top; options that are None are left alone.

        Raises
        ------
        SettingsError
            When there is no such preset.
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
    """Folds as a user types them: "0,1,2", or "all" for nnU-Net's fold_all; "auto" is left as it is.

    Raises
    ------
    SettingsError
        When it is none of these.
    """
    if text.strip() == AUTO_FOLDS:
        return AUTO_FOLDS
    folds = tuple(part.strip() for part in text.split(","))
    if not all(fold.isdigit() or fold == "all" for fold in folds):
        raise SettingsError(f"folds are {text!r}; write auto, all, or numbers with commas, as 0,1,2")
    return folds


def parse_spacing(text: str) -> tuple[float, float, float]:
    """Spacing (Z, Y, X) in mm as a user types it: "2.5, 0.8, 0.8", or "0.8" for all three.

    Raises
    ------
    SettingsError
        When these are not one or three positive numbers.
    """
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


def parse_box(text: str) -> Bounds:
    """A box as a user types it: "40:80, 60:160, 60:160", start and stop along Z, Y, X, counted from 0.

    Raises
    ------
    SettingsError
        When these are not three pairs of whole numbers, the second one larger.
    """
    found = re.fullmatch(r"(\d+):(\d+),(\d+):(\d+),(\d+):(\d+)", re.sub(r"\s", "", text), re.ASCII)
    if found is not None:
        a, b, c, d, e, f = (int(number) for number in found.groups())
        box = (a, b), (c, d), (e, f)
        if _is_box(box):
            return box
    raise SettingsError(f"box is {text!r}; write start:stop along Z, Y and X, as 40:80,60:160,60:160")


def _is_box(box: Bounds) -> bool:
    return len(box) == 3 and all(len(side) == 2 and 0 <= side[0] < side[1] for side in box)


def parse_memory(text: str) -> int:
    """Bytes as a user types them: "4GB" (1000 to the third), "4GiB" (1024 to the third), "500MB", "4000000000".

    Raises
    ------
    SettingsError
        When it is no size, or none that a byte fits in.
    """
    found = _SIZE.fullmatch(text.strip())
    prefix, binary = (found[2] or "", found[3]) if found else ("", "")
    size = int(float(found[1]) * (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " ")) if found else 0
    if size < 1:
        raise SettingsError(f"memory is {text!r}; write a size with its unit, as 4GB, 500MB or 4GiB")
    return size
