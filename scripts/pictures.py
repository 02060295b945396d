"""Makes the pictures of the docs: the real window, with the sample model on the sample image.

xvfb-run -a -s "-screen 0 1400x900x24" python scripts/pictures.py [FOLDER]

window.png after a run, running.png during one, box.png after one in a rectangle, uncertainty.png with its layer,
merged.png with labels merged into a layer that was painted in.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PICTURES = Path(__file__).parent.parent / "docs" / "images"
LONGEST_MS = 600_000


def wait_for(happened: Callable[[], bool]) -> None:
    """Let the window live until something has happened."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, poll, limit = QEventLoop(), QTimer(), QTimer()
    poll.timeout.connect(lambda: loop.quit() if happened() else None)
    limit.timeout.connect(loop.quit)
    poll.start(20)
    limit.start(LONGEST_MS)
    loop.exec()
    if not happened():
        sys.exit("the window did not get that far")


class Window:
    """A window with the sample and the widget, ready to run."""

    def __init__(self, folder: Path) -> None:
        import napari

        from napari_nnunet_cpu.samples import sample_model

        self._folder = folder
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1300, 880)
        self.viewer.open_sample("napari-nnunet-cpu", "t1_head")
        _, self.widget = self.viewer.window.add_plugin_dock_widget("napari-nnunet-cpu", "nnU-Net segmentation")
        self.widget.model.path.value = sample_model()
        wait_for(lambda: self.widget.model.model is not None)
        self.image = self.viewer.layers[0]
        self.viewer.dims.set_current_step(0, self.image.data.shape[0] // 2)
        self.viewer.reset_view()

    def start(self) -> None:
        """Press Run."""
        if self.widget.run() is None:
            sys.exit(self.widget.status.value)

    def finish(self) -> None:
        """Wait for the end of the run."""
        wait_for(lambda: not self.widget.running)

    def take(self, name: str) -> None:
        """Save the picture and close the window."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.viewer.screenshot(str(self._folder / name), canvas_only=False, flash=False)
        self.viewer.close()


def rectangle(window: Window) -> None:
    """Draw around the right half of the slice, and choose it."""
    rows, lines, columns = window.image.data.shape
    corners = [
        (rows // 2, line, column)
        for line, column in ((20, 15), (20, columns // 2), (lines - 25, columns // 2), (lines - 25, 15))
    ]
    shape = [window.image.data_to_world(corner) for corner in corners]
    shapes = window.viewer.add_shapes(
        [shape], name="region", face_color="transparent", edge_color="yellow", units=window.image.units
    )
    window.widget.part.kind.value = shapes


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES

    window = Window(folder)
    window.start()
    window.finish()
    window.take("window.png")

    window = Window(folder)
    window.start()
    live = window.widget.live
    wait_for(lambda: live.preview.painted and window.widget.progress.value >= 5)
    live.preview.finish()
    window.take("running.png")

    window = Window(folder)
    rectangle(window)
    window.start()
    window.finish()
    window.take("box.png")

    window = Window(folder)
    window.widget.run_options.advanced.value = True
    window.widget.run_options.uncertainty.value = "margin"
    window.start()
    window.finish()
    window.widget.uncertainty_button.clicked.emit(True)
    window.take("uncertainty.png")

    window = Window(folder)
    place = {name: getattr(window.image, name) for name in ("scale", "translate", "units")}
    painted = window.viewer.add_labels(window.image.data.astype("uint8") * 0, name="mine", **place)
    painted.brush_size = 14
    middle = window.image.data.shape[0] // 2
    painted.selected_label = 5
    painted.paint((middle, 30, 30), 5)
    window.widget.result.layer.value = painted
    window.start()
    painted.paint((middle, 60, 30), 5)
    window.finish()
    window.take("merged.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as settings:
        os.environ["NAPARI_CONFIG"] = str(
            Path(settings) / "settings.yaml"
        )  # what the user's own last run was does not matter
        main()
