"""What may change while a run computes: the focus, the selection of tiles, and whether to stop."""

from __future__ import annotations

import threading

from napari_nnunet_cpu.predict.tiles.order import Focus
from napari_nnunet_cpu.predict.tiles.selection import TileSelection


class RunControl:
    """Steers a run from outside. Any thread may use it at any time; one object serves all runs of a segmentation.

    Attributes
    ----------
    focus : Focus or None
        What the user looks at: tiles that decide it come first.
    selection : TileSelection or None
        Part of the image to segment, in place of the one in the settings; a `Segmentation` takes it over the next
        time that it begins or goes on. Computed tiles count.
    """

    def __init__(self, focus: Focus | None = None) -> None:
        self.focus = focus
        self.selection: TileSelection | None = None
        self._stop = threading.Event()

    def stop(self) -> None:
        """Stop before the next pass through the network; computed tiles are kept."""
        self._stop.set()

    def restart(self) -> None:
        """Let a stopped run go on."""
        self._stop.clear()

    def should_stop(self) -> bool:
        """Whether to stop; runs ask this before every pass."""
        return self._stop.is_set()
