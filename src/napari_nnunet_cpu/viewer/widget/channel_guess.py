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
    """Guess a layer for every channel name; None if there are too few layers.

    For one channel, the guess is the selected layer or the layer chosen before. For several, it is a layer whose name
    contains the channel's name; then one layer with all channels; then the selected layers, if they are as many as the
    channels; then the other layers in order.

    `selected` and `before` are the offered layers that are selected now, and that were chosen before. `holds_all` tells
    whether a layer seems to have all channels.
    """
    if len(names) == 1 and (selected or before):
        return [*selected, *before][:1]
    if len(selected) != len(names):  # for example the last of several layers that were opened one by one
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
