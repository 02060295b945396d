"""Rounds of fresh processes, ours and theirs in turn, and the medians over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from napari_nnunet_cpu.bench.agreement import Agreement, agreement, boundary_share
from napari_nnunet_cpu.bench.case import BenchCase
from napari_nnunet_cpu.bench.measured import STAGES, Measured
from napari_nnunet_cpu.bench.ours import Ours
from napari_nnunet_cpu.bench.ratios import middle, ratio
from napari_nnunet_cpu.bench.theirs import Theirs
from napari_nnunet_cpu.cases import read_case, read_labels

REFERENCE = "nnU-Net"


@dataclass
class Round:
    """One run of each way, by name, and the agreement of our labels with nnU-Net's."""

    runs: dict[str, Measured] = field(default_factory=dict)
    agreements: dict[str, Agreement] = field(default_factory=dict)


class Pairs:
    """Runs one case in all ways, round after round, and with nnU-Net if it is installed.

    `work` is the folder for labels and caches; `on_run` is called before every process.
    """

    def __init__(
        self, case: BenchCase, ways: Sequence[Ours], theirs: Theirs, work: Path, on_run: Callable[[str], None]
    ) -> None:
        self.case = case
        self.rounds: list[Round] = []
        self.boundary: float | None = None
        self._ways = ways
        self._theirs = theirs
        self._work = work
        self._on_run = on_run
        self._failed: set[str] = set()

    def run(self, pairs: int) -> dict[str, Any]:
        """Run `pairs` rounds and return the case, its "rows" and the raw "rounds": plain values, ready for JSON."""
        image = read_case(*self.case.images)
        for number in range(pairs):
            found = Round()
            # In turns, because the second run of a round may profit from the first.
            sides = [self._run_reference, self._run_ours]
            for side in sides if number % 2 == 0 else reversed(sides):
                side(f"{self.case.name}, {number + 1} of {pairs}", found)
            labels = {name: read_labels(run.labels, image) for name, run in found.runs.items() if run.labels}
            reference = labels.pop(REFERENCE, None)
            for name, ours in labels.items():
                if reference is not None:
                    found.agreements[name] = agreement(ours, reference)
                if self.boundary is None:
                    self.boundary = boundary_share(ours, found.runs[name].details["prepared_shape"])
            self.rounds.append(found)
        return {
            "name": self.case.name,
            "what": self.case.description,
            "options": list(self.case.options),
            "image": {"shape": list(image.shape), "spacing_mm": list(image.spacing_mm)},
            "patch": list(self.case.model.configuration.patch_size),
            "spacing_mm": list(self.case.model.configuration.spacing),
            "classes": self.case.model.labels.heads,
            "boundary_share": self.boundary,
            "rows": self.rows(),
            "rounds": [
                {
                    "runs": {name: run.as_dict() for name, run in found.runs.items()},
                    "agreements": {name: asdict(alike) for name, alike in found.agreements.items()},
                }
                for found in self.rounds
            ],
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row for nnU-Net, if it was run, and one for each way of ours: medians, and ratios over the pairs."""
        names = [REFERENCE] if REFERENCE in self.rounds[0].runs else []
        return [self._row(name) for name in [*names, *(way.name for way in self._ways)]]

    def _run_reference(self, which: str, found: Round) -> None:
        if self._theirs.version is not None and REFERENCE not in self._failed:
            self._on_run(f"{which}: {REFERENCE}")
            self._note(REFERENCE, found, self._theirs.run(self.case, self._work / "theirs"))

    def _run_ours(self, which: str, found: Round) -> None:
        for way in self._ways:
            if way.name in self._failed:
                continue
            self._on_run(f"{which}: {way.name}")
            cache = self._work / f"cache-{way.preset}"
            out = self._work / f"ours-{way.name.replace(',', '').replace(' ', '-')}"
            self._note(way.name, found, way.run(self.case, cache, out))

    def _note(self, name: str, found: Round, run: Measured) -> None:
        found.runs[name] = run
        if run.failure is not None:  # not repeated, because it would fail again, perhaps after an hour
            self._failed.add(name)

    def _row(self, name: str) -> dict[str, Any]:
        ours, theirs = self._runs(name), self._runs(REFERENCE)
        done = [run for run in ours if run is not None and run.failure is None]
        alike = [found.agreements[name] for found in self.rounds if name in found.agreements]
        worst = min((each for each in alike if each.worst_dice is not None), key=lambda each: each.worst_dice or 0.0,
                    default=None)  # fmt: skip
        row: dict[str, Any] = {
            "way": name,
            "failure": next((run.failure for run in ours if run is not None and run.failure is not None), None),
            "seconds": middle([run.seconds for run in done]),
            "stages": {stage: middle([run.stages[stage] for run in done]) for stage in STAGES},
            "stage_seconds": middle([run.stage_seconds for run in done]),
            "over_idle_mb": middle([run.over_idle_mb for run in done]),
            "first_final_seconds": middle([run.first_final_seconds for run in done]),
            "equal": min((each.equal for each in alike), default=None),
            "worst_dice": None if worst is None else worst.worst_dice,
            "worst_label": None if worst is None or worst.worst_label is None else self._label_name(worst.worst_label),
        }
        for key, figure in (("ratio", "seconds"), ("stage_ratio", "stage_seconds"), ("memory_ratio", "over_idle_mb")):
            over = ratio(*([_figure(run, figure) for run in side] for side in (theirs, ours)))
            row[key] = None if name == REFERENCE or over is None else asdict(over)
        return row

    def _runs(self, name: str) -> list[Measured | None]:
        return [found.runs.get(name) for found in self.rounds]

    def _label_name(self, label: int) -> str:
        return f"{label} {self.case.model.labels.names.get(label, '')}".strip()


def _figure(run: Measured | None, name: str) -> float | None:
    """A figure of a run that did not fail."""
    if run is None or run.failure is not None:
        return None
    value: float | None = getattr(run, name)
    return value
