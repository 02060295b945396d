"""The ratio of nnU-Net's figures to ours, over pairs of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

Figure = float | None


@dataclass(frozen=True)
class Ratio:
    """nnU-Net's figure divided by ours; above 1 ours is better."""

    medians: float
    least: float  # of the ratios of the pairs
    most: float


def ratio(theirs: Sequence[Figure], ours: Sequence[Figure]) -> Ratio | None:
    """The ratio over the pairs in which both sides have a figure and ours is above 0; None if there is no such pair."""
    pairs = [(a, b) for a, b in zip(theirs, ours, strict=True) if a is not None and b is not None and b > 0]
    if not pairs:
        return None
    each = [a / b for a, b in pairs]
    return Ratio(median(a for a, _ in pairs) / median(b for _, b in pairs), min(each), max(each))


def middle(figures: Sequence[Figure]) -> Figure:
    """The median of the figures that are not None; None if all are None."""
    there = [figure for figure in figures if figure is not None]
    return median(there) if there else None
