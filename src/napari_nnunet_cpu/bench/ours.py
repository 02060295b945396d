"""Our side: `nnunet-cpu segment` as users type it, in a fresh process."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_nnunet_cpu.bench.case import BenchCase
from napari_nnunet_cpu.bench.measured import STAGES, Measured
from napari_nnunet_cpu.bench.process import run_process
from napari_nnunet_cpu.engines.int8 import AGREEMENTS
from napari_nnunet_cpu.resources import usable_cores
from napari_nnunet_cpu.settings import Settings

# Measures the idle memory of a run: the memory of a process that loads the same libraries and the engine.
_IDLE = """
import sys
import napari_nnunet_cpu.cli
from napari_nnunet_cpu import Settings, load_model, read_case, segment
from napari_nnunet_cpu.engines import plan_engine
from napari_nnunet_cpu.resources import peak_memory_bytes
if plan_engine(load_model(sys.argv[1]), Settings(engine=sys.argv[2], device="cpu")).engine == "torch":
    import torch
else:
    from openvino import Core
    Core().get_property("CPU", "FULL_DEVICE_NAME")  # loads the CPU plugin
print(peak_memory_bytes())
"""


@dataclass(frozen=True)
class Ours:
    """One way of running our command, without mirroring, like nnU-Net's runs."""

    preset: str
    engine: str
    kind: str  # the cache is empty ("first"), filled by a run of the "same image", or by one of another ("cached")
    streams: int | None = None  # tiles at a time; None leaves the number to `segment`

    @classmethod
    def ways(cls, preset: str, engine: str, streams: Sequence[int] = ()) -> list[Ours]:
        """The ways of a preset, in the order in which each fills the cache for the next; the streams come last."""
        plain = [cls(preset, engine, kind) for kind in ("first", *["same image"] * _in_int8(preset), "cached")]
        return [*plain, *(cls(preset, engine, "cached", number) for number in streams)]

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"{self.preset}, {self.kind}" + ("" if self.streams is None else f", {self.streams} streams")

    def run(self, case: BenchCase, cache: Path, out: Path) -> Measured:
        """Segment the case with this cache folder; the labels go to `out`, with the ending of the image."""
        if self.kind == "first":
            shutil.rmtree(cache, ignore_errors=True)
        elif self.kind == "cached":
            shutil.rmtree(cache / AGREEMENTS, ignore_errors=True)
        labels, report = out.with_name(out.name + case.ending), out.with_name(f"{out.name}.json")
        model = case.model
        command = [
            sys.executable, "-m", "napari_nnunet_cpu", "segment", *map(str, case.images), "-m", str(model.folder),
            "-c", model.configuration_name, "-f", model.folds[0], "--checkpoint", model.checkpoints[0].name,
            "--preset", self.preset, "--engine", self.engine, "--device", "cpu", "--no-mirror",
            "--threads", str(usable_cores()), *([] if self.streams is None else ["--streams", str(self.streams)]),
            *case.options, "-o", str(labels), "--report", str(report),
        ]  # fmt: skip
        if self.streams is not None and _in_int8(self.preset):
            run_process(command, {"NAPARI_NNUNET_CPU_CACHE": str(cache)})  # caches the network for these streams
            shutil.rmtree(cache / AGREEMENTS, ignore_errors=True)
        ended = run_process(command, {"NAPARI_NNUNET_CPU_CACHE": str(cache)})
        if ended.failure is not None:
            return Measured(ended.seconds, failure=ended.failure)
        document = json.loads(report.read_text(encoding="utf-8"))
        record = document["runs"][0]
        idle_mb = _idle_mb(model.checkpoints[0], self.engine)
        peak_mb = document["peak_memory_mb"]
        return Measured(
            ended.seconds,
            {name: document["seconds"].get(name, 0.0) for name in STAGES},
            None if peak_mb is None or idle_mb is None else peak_mb + ended.children_mb - idle_mb,
            record.get("first_final_seconds"),
            labels,
            details=_details(document, idle_mb),
        )


def _in_int8(preset: str) -> bool:
    return Settings.from_preset(preset).precision == "int8"


@functools.cache
def _idle_mb(checkpoint: Path, engine: str) -> float | None:
    """Memory of a process that has loaded a run's libraries; None if the system does not tell."""
    said = run_process([sys.executable, "-c", _IDLE, str(checkpoint), engine], {}).output.strip()
    return int(said) / 2**20 if said.isdecimal() else None


def _details(document: dict[str, Any], idle_mb: float | None) -> dict[str, Any]:
    record = document["runs"][0]
    names = ("engine", "precision", "threads", "streams", "tiles", "classes", "prepared_shape")
    return {name: record[name] for name in names} | {
        "shape": document["image"]["shape"],
        "idle_memory_mb": idle_mb,
        "peak_memory_mb": document["peak_memory_mb"],
    }
