"""How many times as much one side takes as the other, over pairs of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

Figure = float | None


@dataclass(frozen=True)
class Ratio:
    """Theirs over ours: above 1 we win."""

    medians: float
    least: float  # of the ratios of the pairs
    most: float


def ratio(theirs: Sequence[Figure], ours: Sequence[Figure]) -> Ratio | None:
    """The ratio over the pairs in which both sides have a figure and ours is above 0; None where there is none."""
    pairs = [(a, b) for a, b in zip(theirs, ours, strict=True) if a is not None and b is not None and b > 0]
    if not pairs:
        return None
    each = [a / b for a, b in pairs]
    return Ratio(median(a for a, _ in pairs) / median(b for _, b in pairs), min(each), max(each))


def middle(figures: Sequence[Figure]) -> Figure:
    """The median of the figures that are not None; None where all are."""
    there = [figure for figure in figures if figure is not None]
    return median(there) if there else None
