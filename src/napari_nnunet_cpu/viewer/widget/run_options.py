"""The options of a run: device, preset, and options on top of the preset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, SpinBox, Widget
from superqt.utils import create_worker

from napari_nnunet_cpu.resources import usable_cores
from napari_nnunet_cpu.settings import PRESETS, UNCERTAINTY_KINDS, Settings
from napari_nnunet_cpu.viewer.run.worker import while_open

_PRESET_HELP = (
    "exact: nnU-Net's labels, mirroring as the model allows\n"
    "fast: the same tiles without mirroring, in int8 where it is faster and agrees\n"
    "draft: as fast, with only as many tiles as cover the image"
)


class RunOptions(Container[Widget]):
    """Device, preset and, under "Advanced", all other options.

    Attributes
    ----------
    device, preset, step, mirror, threads, uncertainty, postprocess : magicgui widgets
        See `Settings`.
    advanced : CheckBox
        Shows the other options, after the `details` of other parts of the widget.
    default_threads : int
        The initial value of `threads`.
    more : dict
        Further settings by name, for which there is no input, or which replace that of an input.
    """

    def __init__(self, details: Sequence[Widget], on_change: Callable[[], None]) -> None:
        cores = usable_cores()
        self.more: dict[str, Any] = {}
        self._devices = [("CPU", "cpu")]
        # A function, because magicgui resets the choices when layers change, and a list would restore the first one.
        self.device = ComboBox(label="device", choices=lambda _: self._devices, value="cpu")
        self.preset = ComboBox(label="preset", choices=list(PRESETS), value="fast", tooltip=_PRESET_HELP)
        self.advanced = CheckBox(text="Advanced", value=False)
        self.step = FloatSpinBox(label="step", value=0.5, min=0.1, max=1.0, step=0.1, tooltip="share of the patch")
        self.mirror = ComboBox(
            label="mirroring", choices=[("as the preset", None), ("on", True), ("off", False)], value=None
        )
        # With enough cores, one is left to the window.
        self.default_threads = cores - 1 if cores >= 4 else cores
        self.threads = SpinBox(label="threads", value=self.default_threads, min=1, max=cores)
        self.postprocess = CheckBox(
            text="postprocessing",
            value=False,
            tooltip="remove components of labels, by the rules that nnU-Net found in validation",
        )
        self.uncertainty = ComboBox(
            label="uncertainty",
            choices=[("none", "none"), *((kind, kind) for kind in UNCERTAINTY_KINDS)],
            tooltip="also a layer that shows where the network is uncertain: not the probability of an error",
        )
        self.details: Container[Widget] = Container(
            widgets=[*details, self.step, self.mirror, self.threads, self.uncertainty, self.postprocess],
            labels=True,
            label=" ",
        )
        super().__init__(widgets=[self.device, self.preset, self.advanced, self.details], labels=True)
        self.margins = (0, 0, 0, 0)
        self.details.margins = (0, 0, 0, 0)
        self.details.visible = False
        self.advanced.changed.connect(self._show_details)
        for widget in (self.preset, self.step, self.mirror):
            widget.changed.connect(on_change)
        create_worker(_device_choices, _connect={"returned": while_open(self, self._set_devices)})

    def settings(self, preset: str | None = None) -> Settings:
        """The settings of a run, optionally with another preset."""
        chosen = {
            "device": self.device.value,
            "step": self.step.value,
            "mirror": self.mirror.value,
            "threads": self.threads.value,
            "uncertainty": None if self.uncertainty.value == "none" else self.uncertainty.value,
            "postprocess": self.postprocess.value,
        }
        return Settings.from_preset(preset or self.preset.value, **chosen | self.more)

    def begin_with_device(self, name: str) -> None:
        """Choose a device before the devices are known; if it turns out not to exist, the CPU takes its place."""
        if name not in self.device.choices:
            self._set_devices([*self._devices, (name, name)])
        self.device.value = name

    def _show_details(self, shown: bool) -> None:
        self.details.visible = shown

    def _set_devices(self, choices: list[tuple[str, str]]) -> None:
        chosen = self.device.value
        self._devices = choices
        self.device.reset_choices()
        if chosen in self.device.choices:  # possibly with another label
            self.device.value = chosen


def _device_choices() -> list[tuple[str, str]]:
    """The devices for the box, found in a thread because importing torch takes seconds."""
    from napari_nnunet_cpu.engines import available_devices

    return [(device.label, device.name) for device in available_devices()]
