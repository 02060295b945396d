"""How far the passes of a tile disagree: what their mean does not say of them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import normalize
from napari_nnunet_cpu.models.labels import Labels

Array = npt.NDArray[np.float32]


class Disagreement:
    """The mutual information of label and pass: the entropy of the mean of the probabilities less their mean entropy.

    It is 0 where all passes give the same probabilities, however unsure these are, and 1 where each is sure of another
    label, or, of fewer labels than passes, where all labels have as many passes that are sure of them. Of regions it
    is the mean.

    Parameters
    ----------
    labels : Labels
        What the heads mean.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._passes = 0
        self._total: Array | None = None
        self._entropies: Array | None = None

    def show(self, logits: Array) -> None:
        """Show the logits (heads, ...) of the next pass, which are left as they are."""
        probabilities = np.array(logits, dtype=np.float32, order="C")
        normalize(probabilities, self._labels)
        entropy = self._entropy(probabilities)
        self._passes += 1
        self._entropies = entropy if self._entropies is None else np.add(self._entropies, entropy, out=entropy)
        self._total = probabilities if self._total is None else np.add(self._total, probabilities, out=probabilities)

    def value(self) -> Array:
        """The disagreement of the passes shown, at least one: shape of a head, float32 in [0, 1]."""
        if self._total is None or self._entropies is None:
            raise SettingsError("no pass was shown, so that there is nothing to disagree; show at least one")
        count = np.float32(self._passes)
        regions = self._labels.region_values is not None
        most = math.log(2) * self._labels.heads if regions else math.log(max(min(self._labels.heads, self._passes), 2))
        found = self._entropy(self._total / count)
        found -= self._entropies / count
        found /= np.float32(most)
        return np.clip(found, 0, 1, out=found)

    def _entropy(self, probabilities: Array) -> Array:
        """Of probabilities (heads, ...), in nats; of regions the sum."""
        found = np.zeros(probabilities.shape[1:], dtype=np.float32)
        for head in probabilities:
            found += entr(head)
            if self._labels.region_values is not None:
                found += entr(1 - head)
        return found
