"""What may change while a run computes: the focus, the selection of tiles, and whether to stop."""

from __future__ import annotations

import threading

from napari_nnunet_cpu.predict.tiles import Focus, TileSelection


class RunControl:
    """Steers a run from outside. Any thread may use it at any time; one object serves all runs of a segmentation.

    Attributes
    ----------
    focus : Focus or None
        The point and slice on screen, whose tiles come first.
    selection : TileSelection or None
        Part of the image to segment, instead of that in the settings. A `Segmentation` reads it when it starts or
        resumes; computed tiles stay.
    """

    def __init__(self, focus: Focus | None = None) -> None:
        self.focus = focus
        self.selection: TileSelection | None = None
        self._stop = threading.Event()

    def stop(self) -> None:
        """Stop before the next pass through the network; computed tiles are kept."""
        self._stop.set()

    def restart(self) -> None:
        """Allow a stopped run to resume."""
        self._stop.clear()

    def should_stop(self) -> bool:
        """Whether to stop; runs ask this before every pass."""
        return self._stop.is_set()
