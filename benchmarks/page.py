"""The page of the benchmarks: the method, the computer, and every row, including rows in which we lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari_nnunet_cpu.bench.table import HEADER, cells, reference_line, title

_NUMBERS = range(1, len(HEADER) - 1)  # columns that are set to the right
_INTRODUCTION = """\
# Benchmarks

How long does an image take, and how much memory, next to nnU-Net on the same computer? This page is written by

```sh
{command}
```

in a checkout of the repository. `nnunet-cpu bench -m MODEL --image IMAGE` measures your model on your image in the same
way. In both, `--reference PYTHON` names an interpreter that has nnunetv2.

## How it was measured

- **Fresh processes, one after another.** Ours is the command `nnunet-cpu segment` as users type it. nnU-Net's is a
  small program around its own functions. They take turns, {pairs} time{plural} each, and swap their order every time.
- **The same work.** The same image file and model folder, one fold, step 0.5, no mirroring, the CPU, {threads} threads.
- **nnU-Net as shipped**, with its reader, preprocessing, network in PyTorch, and export, one after the other in one
  process. Its command nnUNetv2_predict starts further processes for the first and the last, which cost seconds and
  memory: leaving them out favours nnU-Net a little.
- **whole** is the process from start to exit, with Python, libraries, reading and writing. Each side reports its own
  stages, without reading and writing files. Ours loads its libraries in part within **load**, nnU-Net before it.
- **first** runs with an empty cache, as after an installation: the network is converted, and for int8 calibrated, on
  the way. **cached** is every later run of the same model; in int8 that checks each new image, and does not check
  the **same image** once more.
- **first final** is when the first slice has its final labels, for nnU-Net when the process ends.
- **memory** is the peak memory of the process and its children, minus its memory after loading its libraries.
- **times faster** is nnU-Net's median over ours, in brackets the smallest and largest ratio of a pair: below 1 we lose.
  **stages alone** is the same for the sum of the stages, **times less memory** for the memory.
- **labels equal** is the share of voxels with nnU-Net's label, and **worst class** is the class with the smallest Dice;
  both are the worst of all pairs.
- **Models.** All but the sample are random, with nnU-Net's own shapes and plans. Their weights are chosen so that the
  classes form compact regions: how much of the prepared image is **boundary**, with another label across a face of the
  voxel, is in each title. Images are organs of even intensity with texture and noise.

In random networks the rounding errors of int8 grow from layer to layer, because they are not trained to be robust. A
normal run would refuse int8 there; the benchmark accepts it to time it. The sample shows the agreement of a trained
model in int8.

nnU-Net's sums of tiles have 16 bits, and their rounding decides between classes that are nearly equal. Random models
have far more such voxels than trained models, see [Fidelity](fidelity.md).
"""


def page(document: dict[str, Any], command: str) -> str:
    """docs/benchmarks.md, from the document that `--json` prints and the command that made it."""
    machine, reference = document["machine"], document["reference"]
    pairs = document["settings"]["pairs"]
    flags = [name for name, there in machine["flags"].items() if there]
    lacking = [name for name, there in machine["flags"].items() if not there]
    introduction = _INTRODUCTION.format(
        command=command, pairs=pairs, plural="" if pairs == 1 else "s", threads=machine["cores"]
    )
    computer = (
        f"\n## The computer\n\n{machine['cpu']}, {machine['cores']} usable cores; it "
        f"has {', '.join(flags) or 'none'} of the instructions looked for, and lacks {', '.join(lacking) or 'none'}. "
        f"{machine['system']}, Python {machine['python']}.\n\n"
        f"Ours: {_versions(document['versions'])}.\n\n{reference_line(reference)}\n"
    )
    sections = [f"\n## {case['name']}\n\n{title(case)}\n\n{markdown_table(case['rows'])}" for case in document["cases"]]
    return introduction + computer + "".join(sections)


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


def _versions(found: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items() if version is not None)
