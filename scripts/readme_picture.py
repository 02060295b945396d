"""Makes the picture of the README: the real window, after a real run of the sample model on the sample image.

xvfb-run -a -s "-screen 0 1400x900x24" python scripts/readme_picture.py [FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtCore import QEventLoop, QTimer

from napari_nnunet_cpu.samples import sample_model

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "window.png"
LONGEST_MS = 600_000


def wait_for(happened: Callable[[], bool]) -> None:
    """Let the window live until something has happened."""
    loop, poll, limit = QEventLoop(), QTimer(), QTimer()
    poll.timeout.connect(lambda: loop.quit() if happened() else None)
    limit.timeout.connect(loop.quit)
    poll.start(50)
    limit.start(LONGEST_MS)
    loop.exec()
    if not happened():
        sys.exit("the window did not get that far")


def main() -> None:
    picture = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    viewer = napari.Viewer()
    viewer.window.resize(1300, 820)
    viewer.open_sample("napari-nnunet-cpu", "t1_head")
    _, widget = viewer.window.add_plugin_dock_widget("napari-nnunet-cpu", "nnU-Net segmentation")
    widget.model.path.value = sample_model()
    wait_for(lambda: widget.model.model is not None)
    viewer.dims.set_current_step(0, viewer.layers[0].data.shape[0] // 2)
    viewer.reset_view()
    if widget.run() is None:
        sys.exit(widget.status.value)
    wait_for(lambda: widget.worker is None)
    wait_for(lambda: len(viewer.layers) == 2)
    picture.parent.mkdir(parents=True, exist_ok=True)
    viewer.screenshot(str(picture), canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main()
