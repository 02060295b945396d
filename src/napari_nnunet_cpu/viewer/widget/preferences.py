"""Remember the inputs of the last run in napari's plugin settings, so that the widget opens with them.

napari stores them in a YAML file and shows them in its Preferences. napari.yaml defines them under `configurations`.
The file may hold anything, so the code below makes sure that no value can do harm.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.settings import get_plugin_settings

from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.models import CHECKPOINTS
from napari_nnunet_cpu.resources import usable_cores
from napari_nnunet_cpu.settings import AUTO_FOLDS, Settings, parse_folds

if TYPE_CHECKING:
    from magicgui.widgets import FileEdit

    from napari_nnunet_cpu.viewer.widget.model_picker import ModelPicker
    from napari_nnunet_cpu.viewer.widget.run_options import RunOptions

_PLUGIN = "napari-nnunet-cpu"
_GROUP = "last_run"
_MIRRORING = {"as the preset": None, "on": True, "off": False}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preferences:
    """The inputs that the widget opens with."""

    model: Path | None = None  # folder or zip, which may no longer exist
    of_these: tuple[Path, ...] = ()  # the chosen models, if there are several at `model`
    average_with: Path | None = None  # a further folder or zip
    folds: str = AUTO_FOLDS  # "auto", "all", or numbers with commas
    checkpoint: str = CHECKPOINTS[0]  # the file in the fold folders
    # See `Settings`. If `mirror` is None, the preset decides; if `threads` is None, the widget.
    device: str = "cpu"
    preset: str = "fast"
    step: float = 0.5
    mirror: bool | None = None
    threads: int | None = None
    postprocess: bool = False

    @property
    def advanced(self) -> bool:
        """Whether an input under "Advanced" differs from its default."""
        plain = {name: getattr(self, name) for name in ("model", "of_these", "device", "preset")}
        return replace(Preferences(), **plain) != self

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Preferences:
        """Read plain values that napari has checked against napari.yaml.

        Values that are invalid all the same, or do not fit this computer, become the defaults.
        """
        return cls(
            model=_path(stored["model"]),
            of_these=tuple(path for path in map(_path, stored["of_these"].split(os.pathsep)) if path is not None),
            average_with=_path(stored["average_with"]),
            folds=_sound(stored["folds"], parse_folds, cls().folds),
            checkpoint=stored["checkpoint"],
            device=_sound(stored["device"], lambda device: Settings(device=device), cls().device),
            preset=stored["preset"],
            step=stored["step"],
            mirror=_MIRRORING[stored["mirror"]],
            threads=stored["threads"] if 1 <= stored["threads"] <= usable_cores() else None,
            postprocess=stored["postprocess"],
        )

    def as_stored(self) -> dict[str, str | int | float | bool]:
        """Plain values, with the names in napari.yaml."""
        mirroring = {value: name for name, value in _MIRRORING.items()}
        return {
            "model": str(self.model or ""),
            "of_these": os.pathsep.join(map(str, self.of_these)),
            "average_with": str(self.average_with or ""),
            "folds": self.folds,
            "checkpoint": self.checkpoint,
            "device": self.device,
            "preset": self.preset,
            "step": self.step,
            "mirror": mirroring[self.mirror],
            "threads": self.threads or 0,
            "postprocess": self.postprocess,
        }


def read() -> Preferences:
    """The remembered inputs, or the defaults if there are none or they can't be read."""
    try:
        stored = getattr(get_plugin_settings(_PLUGIN), _GROUP).model_dump()
    except Exception as error:  # noqa: BLE001  # because the widget must open, whatever is in any plugin's settings
        _log.info("the inputs of the last run can't be read: %r", error)
        return Preferences()
    return Preferences.from_stored(stored)


def remember(preferences: Preferences) -> None:
    """Remember the inputs for the next session; napari writes the file at once, if the disk allows it."""
    try:
        getattr(get_plugin_settings(_PLUGIN), _GROUP).update(preferences.as_stored())
    except Exception as error:  # noqa: BLE001  # because a run must not fail if this file can't be written
        _log.info("the inputs of this run can't be remembered: %r", error)


def chosen(model: ModelPicker, options: RunOptions) -> Preferences:
    """The present inputs of the widget."""
    threads = options.threads.value
    return Preferences(
        model=_whole(model.path),
        of_these=model.chosen,
        average_with=_whole(model.also),
        folds=model.folds.value,
        checkpoint=model.checkpoint.value,
        device=options.device.value,
        preset=options.preset.value,
        step=options.step.value,
        mirror=options.mirror.value,
        threads=None if threads == options.default_threads else threads,
        postprocess=options.postprocess.value,
    )


def begin_with(preferences: Preferences, model: ModelPicker, options: RunOptions) -> None:
    """Fill in remembered inputs; the model is loaded as if the user had chosen it."""
    options.begin_with_device(preferences.device)
    options.preset.value, options.step.value = preferences.preset, preferences.step
    options.mirror.value, options.postprocess.value = preferences.mirror, preferences.postprocess
    options.threads.value = preferences.threads or options.default_threads
    options.advanced.value = preferences.advanced  # so that no unusual input is hidden
    model.begin_with(
        preferences.model, preferences.of_these, preferences.average_with, preferences.folds, preferences.checkpoint
    )


def _whole(field: FileEdit) -> Path | None:
    value: Any = field.value
    return None if value is None else Path(value).absolute()


def _path(text: str) -> Path | None:
    """The path if it is absolute, because only absolute paths are written."""
    return Path(text) if "\0" not in text and Path(text).is_absolute() else None


def _sound(text: str, judge: Callable[[str], object], default: str) -> str:
    try:
        judge(text)
    except SettingsError:
        return default
    return text
