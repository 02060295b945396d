"""The tables of agreements and differences, for the terminal and for docs/fidelity.md."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

from differences import DEVIATIONS, FAILURES, Difference

AGREEMENT_HEADER = ("case", "voxels", "nnU-Net, 32-bit sums", "nnU-Net as shipped", "nnU-Net's two", "probabilities")
DIFFERENCE_HEADER = ("situation", "nnU-Net", "here")
PACKAGES = (
    "napari-nnunet-cpu", "nnunetv2", "dynamic-network-architectures", "acvl-utils", "batchgenerators",
    "openvino", "torch", "numpy", "scipy", "scikit-image", "nibabel", "SimpleITK", "tifffile", "pillow",
)  # fmt: skip
INTRODUCTION = """\
# Fidelity

Does the exact preset give nnU-Net's labels? Every row below is one image and one model, or the members of one
ensemble, labelled three times: by napari-nnunet-cpu, by nnU-Net as it is shipped, and by nnU-Net with one change.

nnU-Net adds up overlapping tiles in 16-bit floating-point numbers, which are rounded coarsely. Where two classes are
nearly equal, that rounding decides. The one change makes it add in 32 bits, as napari-nnunet-cpu does; all else is its
own code. It reaches as far as nnU-Net's name for the 16-bit type does: the sums of tiles and of folds, and the logits
resampled to the image, which keep the type of what they are made from. The Gaussian weights of the tiles stay rounded
to 16 bits on all sides. So there are three agreements, each the share of voxels with the same label:

- **nnU-Net, 32-bit sums**: ours against nnU-Net with the one change. This is the promise: at least 99.99 %.
- **nnU-Net as shipped**: ours against nnU-Net untouched.
- **nnU-Net's two**: nnU-Net with the change against nnU-Net without it, the noise of its own rounding. Ours lies no
  further from the shipped labels than that.

The last column is the largest difference between one of our probabilities and that of nnU-Net with the change,
anywhere in the image and for any class: at most 0.002.

Our network runs in OpenVINO, which is what the CPU gets by default. `tox -e parity -- --engine torch` asks the same of
torch, with the same bounds.

nnU-Net is called from Python, step by step. That these steps give what its commands nnUNetv2_predict and
nnUNetv2_ensemble write is tested, too, with a cascade in an ensemble.

Most models are small and random, because those leave far more voxels undecided than trained ones, the more so the
more labels they have; and in a cascade a voxel that differs in the first stage changes a neighbourhood in the second.
Trained are the sample model, and two models for a CT and an MR scan of patients
(tests/parity/data/NOTICE.txt). "File" means that each side reads the same file with its own reader; otherwise both
get the same array. The worst case is last.

Headers of NIfTI files often contradict themselves: voxel sizes of another scale than the affine, two affines at
different places or none, units and numbers that are none. ITK and nibabel then see different images, and nnU-Net sees
what its reader sees. Rows that name such a header compare four more things: the same file opened as a layer by
napari-nifti gives the same labels, and the file of our labels lies on the image for ITK, for nibabel and in napari.

"""
FAILURE_TITLE = """
## Where nnU-Net fails

Asked by the same tests. Our errors are one line and say what to do.

"""
DEVIATION_TITLE = """
## Differences on purpose, or easily mistaken

"""
CLOSING = """
Three things no single row shows:

- nnU-Net's probabilities are in the order of its reader: for a model whose reader turns images to RAS, so are the
  .npz files, ours included. `result.probabilities` is in the order of the image.
- A cascade's second stage sees the labels of the first one resampled by batchgenerators. 0.25.5 lets the label with the
  largest share of a voxel win, as is done here; 0.25.1 took the last one with at least half, which changes voxels where
  labels meet. So nnU-Net with that version does not give quite the labels of nnU-Net with this one.
- The same numbers of 32 bits, added up in another order, differ in their last digits. A voxel whose two best labels are
  no further apart than that may get the other one, and in a cascade its neighbourhood may follow. It is rare, and least
  so with `resample_torch_fornnunet` ("torch resampling" above), whose interpolation is not repeated bit by bit.

This page is written by the tests that check it: `tox -e parity`.
"""


@dataclass(frozen=True)
class Agreement:
    """Voxels of one subject, how many of them are labelled differently, and how far probabilities lie apart."""

    name: str
    voxels: int
    from_float32: int
    from_shipped: int
    between_references: int
    probability_error: float

    def badness(self) -> tuple[float, ...]:
        """Shares that differ, the one that matters most first, then the largest difference of a probability."""
        shares = (n / self.voxels for n in (self.from_float32, self.from_shipped, self.between_references))
        return (*shares, self.probability_error)

    def row(self) -> tuple[str, ...]:
        differing = (self.from_float32, self.from_shipped, self.between_references)
        shares = (share(count, self.voxels) for count in differing)
        return self.name, str(self.voxels), *shares, f"{self.probability_error:.1e}"


def share(differing: int, voxels: int) -> str:
    """Percentage that is equal, rounded down: 100 only when all are."""
    return "100 %" if differing == 0 else f"{math.floor(1e6 * (voxels - differing) / voxels) / 1e4:.4f} %"


def agreement_table(agreements: Iterable[Agreement]) -> list[str]:
    """A Markdown table, the worst case last."""
    return table(AGREEMENT_HEADER, [agreement.row() for agreement in sorted(agreements, key=Agreement.badness)], ">")


def difference_table(differences: Iterable[Difference]) -> list[str]:
    """A Markdown table in the order given."""
    return table(DIFFERENCE_HEADER, [astuple(difference) for difference in differences], "<")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], side: str) -> list[str]:
    """An aligned Markdown table; all columns but the first lean to one side, "<" or ">"."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    sides = ["<", *[side] * (len(header) - 1)]
    lines = [
        f"| {' | '.join(f'{text:{where}{width}}' for text, where, width in zip(row, sides, widths, strict=True))} |"
        for row in (header, *rows)
    ]
    rule = "|".join(
        "-" * (width + 1) + (":" if where == ">" else "-") for where, width in zip(sides, widths, strict=True)
    )
    return [lines[0], f"|{rule}|", *lines[1:]]


def page(agreements: Sequence[Agreement]) -> str:
    """docs/fidelity.md."""
    versions = [f"{name} {importlib.metadata.version(name).partition('+')[0]}" for name in PACKAGES]
    lines = [
        INTRODUCTION + "\n".join([*agreement_table(agreements), "", f"Versions: {', '.join(versions)}."]),
        FAILURE_TITLE + "\n".join(difference_table(FAILURES.values())),
        DEVIATION_TITLE + "\n".join(difference_table(DEVIATIONS.values())),
    ]
    return "\n".join(lines) + "\n" + CLOSING
