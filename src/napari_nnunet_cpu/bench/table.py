"""A case's rows as text: for the terminal and for Markdown the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEADER = (
    "way", "whole", "load", "prepare", "predict", "export", "first final", "memory",
    "times faster", "stages alone", "times less memory", "labels equal", "worst class",
)  # fmt: skip
_NUMBERS = range(1, len(HEADER) - 1)  # columns that are set to the right
_ABSENT = "–"


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The cells of one row of `Pairs.rows`, in the order of `HEADER`; with a failure, what was measured before it."""
    return (
        row["way"] if row["failure"] is None else f"{row['way']}, failed: {row['failure']}",
        _seconds(row["seconds"]),
        *[_seconds(row["stages"][stage]) for stage in ("load", "prepare", "predict", "export")],
        _seconds(row["first_final_seconds"]),
        _ABSENT if row["over_idle_mb"] is None else f"{row['over_idle_mb']:,.0f} MB",
        _ratio(row["ratio"]),
        _ratio(row["stage_ratio"]),
        _ratio(row["memory_ratio"]),
        _ABSENT if row["equal"] is None else f"{100 * row['equal']:.4f} %",
        _ABSENT if row["worst_dice"] is None else f"{row['worst_dice']:.4f} ({row['worst_label']})",
    )


def title(case: dict[str, Any]) -> str:
    """What the case is, in one line."""
    boundary = "" if case["boundary_share"] is None else f", {100 * case['boundary_share']:.0f} % boundary"
    options = f", {' '.join(case['options'])}" if case["options"] else ""
    return (
        f"{case['name']}: {case['what']}; image {_by(case['image']['shape'])} of "
        f"{_by(case['image']['spacing_mm'])} mm, patch {_by(case['patch'])} of {_by(case['spacing_mm'])} mm, "
        f"{case['classes']} classes{boundary}{options}"
    )


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of the rows."""
    lines = [HEADER, *(tuple(cell.replace("|", "\\|") for cell in cells(row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        "| " + " | ".join(
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ) + " |"
        for line in lines
    ]  # fmt: skip
    rule = "|".join("-" * (width + 1) + (":" if column in _NUMBERS else "-") for column, width in enumerate(widths))
    return "\n".join([padded[0], f"|{rule}|", *padded[1:]]) + "\n"


def _seconds(figure: float | None) -> str:
    return _ABSENT if figure is None else f"{figure:.2f} s" if figure < 10 else f"{figure:.1f} s"


def _ratio(found: dict[str, float] | None) -> str:
    """Ratio of the medians, and between which values those of the pairs lie."""
    return _ABSENT if found is None else f"{found['medians']:.2f} ({found['least']:.2f}-{found['most']:.2f})"


def _by(lengths: Sequence[float]) -> str:
    return " x ".join(f"{length:g}" for length in lengths)
