"""What the user may choose about a run, and the presets that choose for them."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from napari_nnunet_cpu.errors import SettingsError

PRESETS = ("exact", "fast", "draft")
ENGINES = ("auto", "torch", "openvino")
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
    step : float
        Distance of neighbouring tiles as a share of the patch, in (0, 1]. nnU-Net uses 0.5.
    mirror : bool
        Average over the mirrored patches that the model allows.
    cover : bool
        Compute only as many tiles of the grid as cover the image once.
    threads : int or None
        CPU threads of the network; None takes every core this process may use.
    probabilities : bool
        Keep the probabilities, too. They take memory: 4 bytes a voxel of the image and class.
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
    step: float = 0.5
    mirror: bool = True
    cover: bool = False
    threads: int | None = None
    probabilities: bool = False
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
        if not 0 < self.step <= 1:
            raise SettingsError(f"step is {self.step}: it must be above 0 and at most 1 (nnU-Net uses 0.5)")
        if self.threads is not None and self.threads < 1:
            raise SettingsError(f"threads is {self.threads}: it must be at least 1, or None for all cores")

    @classmethod
    def exact(cls, **options: Any) -> Settings:
        """nnU-Net's own labels: its grid, step 0.5, mirroring as the model allows."""
        return replace(cls(), **options)

    @classmethod
    def fast(cls, **options: Any) -> Settings:
        """The same grid without mirroring: up to eight times faster, slightly different labels."""
        return replace(cls(preset="fast", mirror=False), **options)

    @classmethod
    def draft(cls, **options: Any) -> Settings:
        """A first picture: only as many tiles of the grid as cover the image, without mirroring."""
        return replace(cls(preset="draft", mirror=False, cover=True), **options)

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

    def as_dict(self) -> dict[str, Any]:
        """The options as plain values, for reports and provenance."""
        return asdict(self)


def parse_folds(text: str) -> tuple[str, ...] | None:
    """Folds as a user types them: "0,1,2", or "all", which is None: every fold there is.

    Raises
    ------
    SettingsError
        When it is neither.
    """
    if text.strip() == "all":
        return None
    folds = tuple(part.strip() for part in text.split(","))
    if not all(fold.isdigit() or fold == "all" for fold in folds):
        raise SettingsError(f"folds are {text!r}; write all, or numbers with commas, as 0,1,2")
    return folds


def parse_spacing(text: str) -> tuple[float, float, float]:
    """Spacing (Z, Y, X) in mm as a user types it: "2.5, 0.8, 0.8".

    Raises
    ------
    SettingsError
        When these are not three positive numbers.
    """
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        z = y = x = math.nan
    if not all(math.isfinite(length) and length > 0 for length in (z, y, x)):
        raise SettingsError(f"spacing is {text!r}; write three positive numbers Z,Y,X in mm, as 2.5,0.8,0.8")
    return z, y, x
