"""The mean of the probabilities of an ensemble's members."""

from __future__ import annotations

from napari_nnunet_cpu.export import ScratchArray


class Mean:
    """Adds up the probabilities of members that come one after the other; with the last, they are the mean.

    Parameters
    ----------
    members : int
        How many there are.

    Attributes
    ----------
    store : ScratchArray or None
        The sum of those that were added, the mean once all were; None before the first, whose store it is.
    added : int
        How many were.
    """

    def __init__(self, members: int) -> None:
        self.store: ScratchArray | None = None
        self.added = 0
        self._members = members

    @property
    def bytes(self) -> int:
        """Memory that it holds."""
        return 0 if self.store is None or self.store.on_disk else self.store.array.nbytes

    def add(self, probabilities: ScratchArray) -> None:
        """Add those of a member, which are not to be used any more."""
        if self.store is None:
            self.store = probabilities
        else:
            for head, other in zip(self.store.array, probabilities.array, strict=True):
                head += other
                self.store.release()
                probabilities.release()
        self.added += 1
        if self.added == self._members:
            for head in self.store.array:
                head /= self._members
                self.store.release()
