"""How soon labels appear in a window, and how long it does not respond: the program of `nnunet-cpu bench --live`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import napari
from napari.components.layerlist import LayerList
from napari.layers import Labels
from qtpy.QtCore import QEventLoop, Qt, QTimer

from napari_nnunet_cpu.cases import read_case
from napari_nnunet_cpu.errors import ViewerError
from napari_nnunet_cpu.models import TrainedModel, load_model
from napari_nnunet_cpu.settings import Settings, parse_memory
from napari_nnunet_cpu.viewer.image import case_layer
from napari_nnunet_cpu.viewer.run.layer_segmentation import FinalLabels
from napari_nnunet_cpu.viewer.widget.widget import SegmentWidget

_EVERY_MS = 5  # a timer that is always due would keep one core from the run
_REST_SECONDS = 2.0
_SETTINGS = ("engine", "device", "agreement", "mirror", "threads", "memory")  # over those of the preset


class AddLayerClock:
    """Counts the seconds in which napari makes a Labels layer and adds it, between `start` and `stop`."""

    def __init__(self) -> None:
        self._closed = 0.0
        self._opened: float | None = None
        self._patched: list[tuple[type, str, Callable[..., Any]]] = []

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._closed + (0.0 if self._opened is None else time.perf_counter() - self._opened)

    def start(self) -> None:
        """Begin to count, by wrapping the functions of napari."""
        self._patched = [(one, name, getattr(one, name)) for one, name in ((Labels, "__init__"), (LayerList, "insert"))]
        for one, name, function in self._patched:
            setattr(one, name, self._counted(function))

    def stop(self) -> None:
        """Restore the functions of napari."""
        for one, name, function in self._patched:
            setattr(one, name, function)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def counted(*arguments: Any, **options: Any) -> Any:
            if self._opened is not None:  # called within the other function
                return function(*arguments, **options)
            self._opened = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._closed, self._opened = self.seconds, None

        return counted


class LoopWatch:
    """The longest gap between two rounds of the event loop: a few ms at rest."""

    def __init__(self, aside: AddLayerClock) -> None:
        self._aside = aside
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._last, self._last_aside = time.perf_counter(), aside.seconds
        self._longest = self._longest_outside = 0.0
        self._timer.start(_EVERY_MS)

    def longest(self) -> tuple[float, float]:
        """Seconds of the longest gap since the last call: all of it, and without napari's adding of layers."""
        self._tick()
        found = self._longest, self._longest_outside
        self._longest = self._longest_outside = 0.0
        return found

    def _tick(self) -> None:
        now, aside = time.perf_counter(), self._aside.seconds
        gap = now - self._last
        self._longest = max(self._longest, gap)
        self._longest_outside = max(self._longest_outside, gap - (aside - self._last_aside))
        self._last, self._last_aside = now, aside


class SliceWatch:
    """The times of the first and of the last labels on the slice on screen.

    Voxels outside the cropped image are background from the start, without an event.
    """

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self._start = time.perf_counter()
        self.first: float | None = None
        self.final: float | None = None

    def see(self, event: FinalLabels) -> None:
        """Note the time, if the painted labels are on the slice; no label is painted twice."""
        rows = event.place[0]
        if not isinstance(rows, slice) or not rows.start <= self._shown < rows.stop:
            return
        self.final = time.perf_counter() - self._start
        if self.first is None:
            self.first = self.final


def live_times(images: Sequence[str], model: TrainedModel, settings: Settings) -> dict[str, Any]:
    """Segment an image, a file per channel, by a click on Run, with the middle slice along the first axis on screen.

    In seconds from the click: the "first" and the "final" labels on that slice (None if it lies outside the cropped
    image) and the "whole" run. Also the longest "gap" of the event loop meanwhile, "gap_outside" of napari's adding of
    layers, and "gap_idle" in a window at rest.
    """
    viewer = napari.Viewer()
    layers = [viewer.add_layer(case_layer(read_case(image))) for image in images]
    shown = layers[0].data.shape[0] // 2
    viewer.dims.set_current_step(0, shown)
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget)
    widget.model.take((model,))
    for box, layer in zip(widget.channels.boxes, layers, strict=True):
        box.value = layer
    widget.run_options.preset.value = settings.preset
    widget.run_options.more = {name: getattr(settings, name) for name in _SETTINGS}
    clock = AddLayerClock()
    loop = LoopWatch(clock)
    _process_events(_REST_SECONDS)  # the window draws itself
    loop.longest()
    _process_events(_REST_SECONDS)
    idle, _ = loop.longest()
    clock.start()
    try:
        watch = SliceWatch(shown)
        start = time.perf_counter()
        widget.run_button.clicked.emit(True)
        run = widget.live
        if run is None:
            raise ViewerError(widget.status.value)
        run.painted.connect(watch.see)
        labels = run.wait()
    finally:
        clock.stop()
    whole = time.perf_counter() - start
    gap, outside = loop.longest()
    record = labels.metadata["nnunet"]["runs"][-1] if labels is not None else {}
    viewer.close()
    return {
        "first": watch.first,
        "final": watch.final,
        "whole": whole,
        "gap": gap,
        "gap_outside": outside,
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
