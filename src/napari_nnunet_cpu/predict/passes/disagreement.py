"""Measure how much the passes of a tile disagree."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.export import normalize
from napari_nnunet_cpu.models import Labels

Array = npt.NDArray[np.float32]


class Disagreement:
    """The mutual information of label and pass: the entropy of the mean probabilities minus their mean entropy.

    It is 0 if all passes give the same probabilities, even uncertain ones. It is 1 if each pass is certain of another
    label; with fewer labels than passes, if each label has equally many passes that are certain of it. For regions it
    is the mean over regions.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._passes = 0
        self._total: Array | None = None
        self._entropies: Array | None = None

    def show(self, logits: Array) -> None:
        """Add the logits (heads, ...) of the next pass, which are not changed."""
        probabilities = np.array(logits, dtype=np.float32, order="C")
        normalize(probabilities, self._labels)
        entropy = self._entropy(probabilities)
        self._passes += 1
        self._entropies = entropy if self._entropies is None else np.add(self._entropies, entropy, out=entropy)
        self._total = probabilities if self._total is None else np.add(self._total, probabilities, out=probabilities)

    def value(self) -> Array:
        """The disagreement of the passes so far, at least one: shape of a head, float32 in [0, 1]."""
        if self._total is None or self._entropies is None:
            raise SettingsError("disagreement needs at least one pass, but found none; show a pass first")
        count = np.float32(self._passes)
        regions = self._labels.region_values is not None
        most = math.log(2) * self._labels.heads if regions else math.log(max(min(self._labels.heads, self._passes), 2))
        found = self._entropy(self._total / count)
        found -= self._entropies / count
        found /= np.float32(most)
        return np.clip(found, 0, 1, out=found)

    def _entropy(self, probabilities: Array) -> Array:
        """The entropy of probabilities (heads, ...), in nats; for regions the sum over regions."""
        found = np.zeros(probabilities.shape[1:], dtype=np.float32)
        for head in probabilities:
            found += entr(head)
            if self._labels.region_values is not None:
                found += entr(1 - head)
        return found
