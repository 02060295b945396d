"""Which layers the channels of a model probably are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Image


def guess_channels(
    names: Sequence[str],
    offered: Sequence[Image],
    selected: Sequence[Image],
    before: Sequence[Image],
    holds_all: Callable[[Image], bool],
) -> list[Image | None]:
    """A layer for every channel, None where there are too few.

    For one channel it is the selected layer, or the one before. For several they are those whose names hold the
    channel's name; one with all channels; those that are selected, where these are as many; the others in order.

    Parameters
    ----------
    names : sequence of str
        Of the channels.
    offered : sequence of Image
        All layers that are images.
    selected, before : sequence of Image
        Those of them that are selected now, and those that were chosen before.
    holds_all : callable
        Whether a layer seems to have all of several channels.
    """
    if len(names) == 1 and (selected or before):
        return [*selected, *before][:1]
    if len(selected) != len(names):  # as of layers that were opened one by one: the last one
        selected = []
    layers = [*selected, *(layer for layer in offered if layer not in selected)]
    left = list(layers)
    found: dict[str, Image] = {}
    for name in sorted(names, key=len, reverse=True):
        # As a word of its own: T1 is not in "T1ce", nor CT in "reconstruction".
        word = re.compile(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", re.IGNORECASE)
        match = next((layer for layer in left if word.search(layer.name)), None)
        if match is not None:
            found[name] = match
            left.remove(match)
    if len(found) < len(names):
        whole = next((layer for layer in layers if holds_all(layer)), None)
        if whole is not None and (whole is layers[0] or len(layers) < len(names)):
            return [whole] * len(names)
    return [found[name] if name in found else (left.pop(0) if left else None) for name in names]
