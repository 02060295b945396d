"""The mean of the probabilities of an ensemble's members."""

from __future__ import annotations

from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import ScratchArray


class Mean:
    """Adds up the probabilities of the members of an ensemble, and divides by their number after the last.

    `store` is None before the first member. Then it is the first member's array, with the sum so far or the mean.
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
