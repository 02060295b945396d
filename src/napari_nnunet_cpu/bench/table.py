"""Figures as text: the same cells for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEADER = (
    "way", "whole", "load", "prepare", "predict", "export", "first final", "memory",
    "times faster", "stages alone", "times less memory", "labels equal", "worst class",
)  # fmt: skip
_ABSENT = "–"


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The cells of one row of `Pairs.rows`, in the order of `HEADER`; after a failure, the figures before it."""
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
    """The case in one line."""
    boundary = "" if case["boundary_share"] is None else f", {100 * case['boundary_share']:.0f} % boundary"
    options = f", {' '.join(case['options'])}" if case["options"] else ""
    return (
        f"{case['name']}: {case['what']}; image {_by(case['image']['shape'])} of "
        f"{_by(case['image']['spacing_mm'])} mm, patch {_by(case['patch'])} of {_by(case['spacing_mm'])} mm, "
        f"{case['classes']} classes{boundary}{options}"
    )


def reference_line(reference: dict[str, Any]) -> str:
    """The versions of nnU-Net's side, or the reason why it was not run, for people."""
    if reference["nnunetv2"] is None:
        return (
            f"nnU-Net was not measured: nnunetv2 is not installed in {reference['where']}; "
            "name an interpreter that has it with --reference."
        )
    return f"nnU-Net: nnunetv2 {reference['nnunetv2']}, torch {reference['torch']}."


def _seconds(figure: float | None) -> str:
    return _ABSENT if figure is None else f"{figure:.2f} s" if figure < 10 else f"{figure:.1f} s"


def _ratio(found: dict[str, float] | None) -> str:
    """The ratio of the medians, and the range of the pairs' ratios."""
    return _ABSENT if found is None else f"{found['medians']:.2f} ({found['least']:.2f}-{found['most']:.2f})"


def _by(lengths: Sequence[float]) -> str:
    return " x ".join(f"{length:g}" for length in lengths)
