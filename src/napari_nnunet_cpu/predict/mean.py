"""The mean of the probabilities of an ensemble's models."""

from __future__ import annotations

from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import ScratchArray


class Mean:
    """Adds up the probabilities of models (members) one by one, and divides by their number after the last.

    Attributes
    ----------
    store : ScratchArray or None
        The sum so far, or the mean after the last member; None before the first. It is the first member's array.
    """

    def __init__(self, members: int) -> None:
        self.store: ScratchArray | None = None
        self._missing = self._members = members

    @property
    def bytes(self) -> int:
        """Bytes of the sum in memory; 0 if it is on disk."""
        return 0 if self.store is None or self.store.on_disk else self.store.array.nbytes

    def add(self, probabilities: ScratchArray) -> None:
        """Add the probabilities of a member; the array must not be used afterwards."""
        if self.store is None:
            self.store = probabilities
        else:
            for head, other in zip(self.store.array, probabilities.array, strict=True):
                head += other
                self.store.release()
                probabilities.release()
        self._missing -= 1
        if self._missing == 0:
            for head in self.store.array:
                head /= self._members
                self.store.release()

    def value(self) -> ScratchArray:
        """The mean over all members; raises `SettingsError` while members are missing."""
        if self.store is None or self._missing:
            raise SettingsError(f"{self._missing} of {self._members} members of the ensemble are not added yet")
        return self.store
