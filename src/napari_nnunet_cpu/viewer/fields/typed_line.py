"""A line that says what was found until the user types something else."""

from __future__ import annotations

from collections.abc import Callable

from magicgui.widgets import LineEdit


class TypedLine(LineEdit):
    """Shows a value that is found elsewhere; what the user types wins, and an emptied line goes back.

    Parameters
    ----------
    label, tooltip : str
        As magicgui takes them.
    on_typed : callable
        Called after every key.
    """

    def __init__(self, label: str, tooltip: str, on_typed: Callable[[], None]) -> None:
        super().__init__(label=label, tooltip=tooltip)
        self._typed = False
        self._on_typed = on_typed
        self.native.textEdited.connect(self._edited)

    @property
    def typed(self) -> str | None:
        """What the user typed; None where what is found holds."""
        return str(self.value) if self._typed else None

    def show_found(self, text: str) -> None:
        """Show what is found, unless the user typed something."""
        if not self._typed:
            self.value = text

    def forget(self) -> None:
        """Go back to what is found."""
        self._typed = False

    def _edited(self, text: str) -> None:
        self._typed = bool(text.strip())
        self._on_typed()
