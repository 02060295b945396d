"""The table of agreements, for the terminal and for docs/fidelity.md."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Sequence
from dataclasses import dataclass

HEADER = ("case", "voxels", "nnU-Net, 32-bit sums", "nnU-Net as shipped", "nnU-Net's two")
PACKAGES = (
    "napari-nnunet-cpu", "nnunetv2", "dynamic-network-architectures", "acvl-utils", "batchgenerators",
    "torch", "numpy", "scipy", "scikit-image", "nibabel", "SimpleITK",
)  # fmt: skip
INTRODUCTION = """\
# Fidelity

Does the exact preset give nnU-Net's labels? Every row below is one model and one image, labelled three times: by
napari-nnunet-cpu, by nnU-Net as it is shipped, and by nnU-Net with one change.

nnU-Net adds up overlapping tiles in 16-bit floating-point numbers, which are rounded coarsely. Where two classes are
nearly equal, that rounding decides. The one change makes it add in 32 bits, as napari-nnunet-cpu does; all else is its
own code. So there are three agreements, each the share of voxels with the same label:

- **nnU-Net, 32-bit sums**: ours against nnU-Net with the one change. This is the promise: at least 99.99 %.
- **nnU-Net as shipped**: ours against nnU-Net untouched.
- **nnU-Net's two**: nnU-Net with the change against nnU-Net without it, the noise of its own rounding. Ours lies no
  further from the shipped labels than that.

All but the sample model have small random networks, because those leave far more voxels undecided than trained ones.
The models and images are written by the tests. "File" means that each side reads the same NIfTI file with its own
reader. The worst case is last.

"""
CLOSING = """
This page is written by the tests that check it: `tox -e parity`.
"""


@dataclass(frozen=True)
class Agreement:
    """Voxels of one subject, and how many of them are labelled differently."""

    name: str
    voxels: int
    from_float32: int
    from_shipped: int
    between_references: int

    def badness(self) -> tuple[float, ...]:
        """Shares that differ, the one that matters most first."""
        return tuple(n / self.voxels for n in (self.from_float32, self.from_shipped, self.between_references))

    def row(self) -> tuple[str, ...]:
        differing = (self.from_float32, self.from_shipped, self.between_references)
        return self.name, str(self.voxels), *(share(count, self.voxels) for count in differing)


def share(differing: int, voxels: int) -> str:
    """Percentage that is equal, rounded down: 100 only when all are."""
    return "100 %" if differing == 0 else f"{math.floor(1e6 * (voxels - differing) / voxels) / 1e4:.4f} %"


def table(agreements: Sequence[Agreement]) -> list[str]:
    """A Markdown table, aligned, the worst case last."""
    rows = [HEADER, *(agreement.row() for agreement in sorted(agreements, key=Agreement.badness))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = []
    for name, *figures in rows:
        cells = [name.ljust(widths[0]), *(text.rjust(width) for text, width in zip(figures, widths[1:], strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    return [lines[0], rule, *lines[1:]]


def page(agreements: Sequence[Agreement]) -> str:
    """docs/fidelity.md."""
    versions = [f"{name} {importlib.metadata.version(name).partition('+')[0]}" for name in PACKAGES]
    return INTRODUCTION + "\n".join([*table(agreements), "", f"Versions: {', '.join(versions)}."]) + "\n" + CLOSING
