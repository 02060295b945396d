"""How soon labels appear in a window, and for how long it does not answer: the program of `nnunet-cpu bench --live`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import napari
from qtpy.QtCore import QEventLoop, Qt, QTimer

from napari_nnunet_cpu.cases import read_case
from napari_nnunet_cpu.models import load_model
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.settings import Settings, parse_memory
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.image.sample import case_layer
from napari_nnunet_cpu.viewer.run.layer_segmentation import FinalLabels
from napari_nnunet_cpu.viewer.run.live_run import LiveRun

_EVERY_MS = 5  # a timer that is always due would keep one core from the run
_REST_SECONDS = 2.0


class LoopWatch:
    """The longest gap between two rounds of the event loop: a few ms at rest."""

    def __init__(self) -> None:
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._last = time.perf_counter()
        self._longest = 0.0
        self._timer.start(_EVERY_MS)

    def longest(self) -> float:
        """Seconds of the longest gap since the last call."""
        self._tick()
        found, self._longest = self._longest, 0.0
        return found

    def _tick(self) -> None:
        now = time.perf_counter()
        self._longest = max(self._longest, now - self._last)
        self._last = now


class SliceWatch:
    """The times of the first and of the last labels on the slice on screen.

    Voxels that were cropped away are background from the start, and no event tells of them.
    """

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self._start = time.perf_counter()
        self.first: float | None = None
        self.final: float | None = None

    def see(self, event: FinalLabels) -> None:
        """Note the time, where the labels painted are on the slice; none of them comes twice."""
        rows = event.place[0]
        if not isinstance(rows, slice) or not rows.start <= self._shown < rows.stop:
            return
        self.final = time.perf_counter() - self._start
        if self.first is None:
            self.first = self.final


def live_times(images: Sequence[str], model: TrainedModel, settings: Settings) -> dict[str, Any]:
    """Segment an image, a file per channel, in a window with the middle slice along the first axis on screen.

    In seconds from the start: the "first" and the "final" labels on that slice (None where all of it was cropped
    away) and the "whole" run; the longest "gap" of the event loop meanwhile, and "gap_idle" in a window at rest.
    """
    viewer = napari.Viewer()
    layers = [viewer.add_layer(case_layer(read_case(image))) for image in images]
    shown = layers[0].data.shape[0] // 2
    viewer.dims.set_current_step(0, shown)
    loop = LoopWatch()
    _process_events(_REST_SECONDS)  # the window draws itself
    loop.longest()
    _process_events(_REST_SECONDS)
    idle = loop.longest()
    run = LiveRun(viewer, layers[0], image_from_layers(layers), model, settings)
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
        "precision": record.get("precision"),
    }


def _process_events(seconds: float) -> None:
    loop = QEventLoop()
    QTimer.singleShot(int(seconds * 1000), loop.quit)
    loop.exec()


def main() -> None:
    """Print the result of `live_times` as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("fold")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--preset", required=True)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--agreement", type=float)
    parser.add_argument("--memory", type=parse_memory)
    arguments = parser.parse_args()
    chosen = {name: getattr(arguments, name) for name in ("engine", "agreement", "memory")}
    settings = Settings.from_preset(arguments.preset, device="cpu", mirror=False, **chosen)
    print(json.dumps(live_times(arguments.images, load_model(arguments.model, folds=[arguments.fold]), settings)))


if __name__ == "__main__":
    main()
