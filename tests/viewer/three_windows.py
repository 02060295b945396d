"""A program of its own: windows are closed with the mouse while runs go on, for which napari's fixtures have no way."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["NAPARI_CONFIG"] = str(Path(sys.argv[1]) / "settings.yaml")  # before napari reads the user's

import napari
import numpy as np
from conftest import PATIENCE_MS, GatedEngine
from napari.utils.notifications import notification_manager
from qtpy.QtTest import QTest
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Settings, segment_layer
from napari_nnunet_cpu.predict import run_engine
from napari_nnunet_cpu.viewer.widget.widget import SegmentWidget


def main(folder: Path) -> None:
    """Close the second window, then the first one, each while runs go on in others."""
    gated = GatedEngine()
    run_engine.choose_engine = lambda *_: gated  # type: ignore[assignment]  # whichever it is then
    model, image = RandomModel().write(folder), smooth_image((20, 27, 25), seed=4)[0] + 1000
    first, second, third = (napari.Viewer(title=name) for name in ("first", "second", "third"))
    for viewer in (first, second, third):
        viewer.add_image(image, name="scan")
        viewer.add_labels(np.ones(image.shape, np.uint8), name="mine")

    widget = SegmentWidget(first)
    first.window.add_dock_widget(widget)
    widget.model.path.value = model
    until(lambda: bool(widget.model.models))
    behind, live = widget.run_in_background(), widget.run()
    gated.let(3)
    second.window._qt_window.close()
    gated.let(3)
    gated.gate.set()
    until(lambda: not behind.running and not live.running)
    for name in ("scan labels", "scan labels [1]"):
        assert (first.layers[name].data == 2).all()

    gated = GatedEngine()
    live, theirs = widget.run(), segment_layer(third, "scan", model, Settings.fast(), block=False)
    gated.let(6)
    assert live.running
    first.window._qt_window.close()
    gated.gate.set()
    until(lambda: not live.running and not theirs.running)
    assert live.labels is None, (live.labels, gated.passes)
    assert (third.layers["scan labels"].data == 2).all()
    third.screenshot()
    third.close()
    print([record.message for record in notification_manager.records])


def until(true: Callable[[], bool]) -> None:
    """Let the windows live until it is true."""
    for _ in range(PATIENCE_MS // 10):
        if true():
            return
        QTest.qWait(10)
    raise TimeoutError


if __name__ == "__main__":
    main(Path(sys.argv[1]))
