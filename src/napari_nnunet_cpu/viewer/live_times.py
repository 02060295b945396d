"""Measure when labels appear in a window, and how long the window freezes: for `nnunet-cpu bench --live`."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import napari
from qtpy.QtCore import QEventLoop, Qt, QTimer

from napari_nnunet_cpu.cases import read_case
from napari_nnunet_cpu.models import load_model
from napari_nnunet_cpu.settings import Settings, parse_memory
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.image.sample import case_layer
from napari_nnunet_cpu.viewer.run.layer_segmentation import FinalLabels
from napari_nnunet_cpu.viewer.run.live_run import LiveRun

_EVERY_MS = 5  # because a timer that is always due would take a core from the run


class LoopWatch:
    """Measures the longest gap between two rounds of the event loop, in seconds: a few ms at rest."""

    def __init__(self) -> None:
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._last = time.perf_counter()
        self._longest = 0.0
        self._timer.start(_EVERY_MS)

    def longest(self) -> float:
        """The longest gap since the last call."""
        self._tick()
        found, self._longest = self._longest, 0.0
        return found

    def _tick(self) -> None:
        now = time.perf_counter()
        self._longest = max(self._longest, now - self._last)
        self._last = now


class SliceWatch:
    """Measures when the slice on screen gets its first and its last labels.

    Voxels around the cropped image are background from the start, so no event reports them.
    """

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self._start = time.perf_counter()
        self.first: float | None = None
        self.final: float | None = None

    def see(self, event: FinalLabels) -> None:
        """Note the time of labels that were painted; each voxel is painted once."""
        rows = event.place[0]
        if not isinstance(rows, slice) or not rows.start <= self._shown < rows.stop:
            return
        self.final = time.perf_counter() - self._start
        if self.first is None:
            self.first = self.final


def live_times(image: str, model: str, settings: Settings) -> dict[str, Any]:
    """Segment an image with one channel in a window that shows the middle slice along the first axis.

    Returns seconds from the start of the run: "first" and "final" labels on this slice (None if it lies outside the
    cropped image), and the "whole" run. Further "gap", the longest gap of the event loop in the run, "gap_idle", the
    same in a window at rest, and "tiles".
    """
    case = read_case(image)
    trained = load_model(model)
    viewer = napari.Viewer()
    layer = viewer.add_layer(case_layer(case))
    shown = case.shape[0] // 2
    viewer.dims.set_current_step(0, shown)
    loop = LoopWatch()
    _process_events(2.0)  # until the window is drawn
    loop.longest()
    _process_events(2.0)
    idle = loop.longest()
    snapshot = image_from_layers([layer])
    run = LiveRun(viewer, layer, snapshot, trained, settings)
    watch = SliceWatch(shown)
    run.painted.connect(watch.see)
    start = time.perf_counter()
    run.start()
    labels = run.wait()
    whole = time.perf_counter() - start
    gap = loop.longest()
    record = labels.metadata["nnunet"]["runs"][-1] if labels is not None else {}
    viewer.close()
    return {
        "first": watch.first,
        "final": watch.final,
        "whole": whole,
        "gap": gap,
        "gap_idle": idle,
        "tiles": record.get("tiles"),
        "engine": record.get("engine"),
        "precision": record.get("precision"),
    }


def _process_events(seconds: float) -> None:
    loop = QEventLoop()
    QTimer.singleShot(int(seconds * 1000), loop.quit)
    loop.exec()


def main() -> None:
    """Print the result of `live_times` as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("image")
    parser.add_argument("model")
    parser.add_argument("preset")
    parser.add_argument("--agreement", type=float)
    parser.add_argument("--memory", type=parse_memory)
    arguments = parser.parse_args()
    chosen = {"agreement": arguments.agreement, "memory": arguments.memory}
    settings = Settings.from_preset(arguments.preset, device="cpu", mirror=False, **chosen)
    print(json.dumps(live_times(arguments.image, arguments.model, settings)))


if __name__ == "__main__":
    main()
