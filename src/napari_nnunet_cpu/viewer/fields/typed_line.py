"""A text field that shows a detected value until the user types another one."""

from __future__ import annotations

from collections.abc import Callable

from magicgui.widgets import LineEdit


class TypedLine(LineEdit):
    """Shows a detected value. Text that the user types replaces it, and an empty field shows it again.

    `on_typed` is called after every keystroke.
    """

    def __init__(self, label: str, tooltip: str, on_typed: Callable[[], None]) -> None:
        super().__init__(label=label, tooltip=tooltip)
        self._typed = False
        self._on_typed = on_typed
        self.native.textEdited.connect(self._edited)

    @property
    def typed(self) -> str | None:
        """The text that the user typed; None while the detected value is valid."""
        return str(self.value) if self._typed else None

    def show_found(self, text: str) -> None:
        """Show a detected value, unless the user typed another one."""
        if not self._typed:
            self.value = text

    def forget(self) -> None:
        """Return to the detected value."""
        self._typed = False

    def _edited(self, text: str) -> None:
        self._typed = bool(text.strip())
        self._on_typed()
