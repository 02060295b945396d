"""nnU-Net's side: our program `reference.py`, run by an interpreter that has nnunetv2."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_nnunet_cpu.bench.case import BenchCase
from napari_nnunet_cpu.bench.measured import Measured
from napari_nnunet_cpu.bench.process import run_process
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.resources import usable_cores

_PROGRAM = Path(__file__).with_name("reference.py")
_VERSIONS = "from importlib.metadata import version; print(version('nnunetv2'), version('torch'))"
# The program lies in our package, whose module names must not hide other modules.
_ENVIRONMENT = {"PYTHONSAFEPATH": "1"}


@dataclass(frozen=True)
class Theirs:
    """nnU-Net in another interpreter; the versions of nnunetv2 and torch are None if it is not installed there."""

    python: str
    version: str | None
    torch: str | None
    timeout: float  # seconds

    @classmethod
    def find(cls, python: str, timeout: float) -> Theirs:
        """Look for nnunetv2 in an interpreter; raises `SettingsError` if the interpreter can't be run."""
        try:
            ended = run_process([python, "-c", _VERSIONS], {}, timeout)
        except OSError as error:
            raise SettingsError(f"{python} can't be run ({error.strerror}): name a Python interpreter") from error
        version, torch = (None, None) if ended.failure else ended.output.split()
        return cls(python, version, torch, timeout)

    def describe(self) -> dict[str, Any]:
        """The versions and the kind of interpreter, as plain values without paths of this machine."""
        where = "this interpreter" if self.python == sys.executable else "the interpreter named"
        return {"nnunetv2": self.version, "torch": self.torch, "where": where}

    def run(self, case: BenchCase, out: Path) -> Measured:
        """Segment the case; the labels go to `out`, with the ending of the image."""
        labels, task = out.with_name(out.name + case.ending), out.with_name(f"{out.name}.json")
        document = {
            "model": str(case.model.folder),
            "fold": case.model.folds[0],
            "checkpoint": case.model.checkpoints[0].name,
            "images": [str(image) for image in case.images],
            "out": str(labels),
            "folder": str(out.parent),
            "threads": usable_cores(),
        }
        task.write_text(json.dumps(document), encoding="utf-8")
        ended = run_process([self.python, str(_PROGRAM), str(task)], _ENVIRONMENT, self.timeout)
        if ended.failure is not None:
            return Measured(ended.seconds, failure=ended.failure)
        found = json.loads(ended.output)
        idle_mb, peak_mb = found["idle_memory_mb"], found["peak_memory_mb"]
        return Measured(
            ended.seconds,
            found.pop("seconds"),
            None if peak_mb is None else peak_mb + ended.children_mb - idle_mb,
            ended.seconds,
            labels,
            details=found,
        )
