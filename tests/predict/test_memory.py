"""Which plan a budget leads to, and how much a run is said to take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_engines import FakeEngine
from random_model import RandomModel

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, load_model
from napari_nnunet_cpu.models.network.operations import layers
from napari_nnunet_cpu.predict.passes.accumulated_channels import accumulated_channels
from napari_nnunet_cpu.predict.planning import engine_memory, memory
from napari_nnunet_cpu.predict.planning.memory import MemoryPlan, budget_bytes, plan_memory
from napari_nnunet_cpu.predict.planning.plan import export_of
from napari_nnunet_cpu.predict.tiles.grid import Grid
from napari_nnunet_cpu.prepare import plan_geometry

PLAIN = Settings.exact(mirror=False, threads=1)
LONG = Case(np.zeros((1, 400, 64, 64), np.float32), (1.0, 1.0, 1.0))
MANY = {"background": 0} | {f"label {value}": value for value in range(1, 30)}
WIDE = {"features_per_stage": [32, 40, 48]}  # more features than heads, which are summed then


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return load_model(
        RandomModel(patch=(8, 64, 64), labels=MANY, architecture=WIDE).write(tmp_path_factory.mktemp("many"))
    )


def plan(
    budget: int, model: TrainedModel, case: Case = LONG, settings: Settings = PLAIN, any_order: bool = False
) -> MemoryPlan:
    geometry = plan_geometry(case, model)
    grid = Grid.for_image(geometry.shape, model.configuration.patch_size, settings.step)
    export, channels = export_of(model, settings, geometry), accumulated_channels(model, settings)
    return plan_memory(case, model, settings, geometry, grid, export, budget, any_order, channels, len(grid))


def test_rows_where_tiles_come_row_by_row(many: TrainedModel) -> None:
    rows = plan(10**12, many)
    assert (rows.kind, rows.depth) == ("rows", 8)
    dense = plan(10**12, many, any_order=True)
    assert (dense.kind, dense.depth) == ("dense", 400)
    assert dense.bytes - rows.bytes == 4 * 31 * (400 - 8) * 64 * 64
    assert plan(dense.bytes, many, any_order=True) == dense
    disk = plan(dense.bytes - 1, many, any_order=True)
    assert (disk.kind, disk.depth) == ("disk", 400)
    assert plan(rows.bytes, many) == rows
    assert plan(1, many) == plan(rows.bytes - 1, many)  # as little as there is, to be refused


def test_features_are_counted_where_they_are_fewer(many: TrainedModel, tmp_path: Path) -> None:
    narrow = load_model(RandomModel(patch=(8, 64, 64), labels=MANY).write(tmp_path))
    plans = [plan(10**12, narrow, any_order=any_order) for any_order in (True, False)]
    assert plans[0].bytes - plans[1].bytes == 4 * (4 + 1) * (400 - 8) * 64 * 64


def test_disk_where_rows_are_no_help(tmp_path: Path) -> None:
    options = {"probabilities": {"order": 3}}
    model = load_model(
        RandomModel(patch=(8, 64, 64), labels=MANY, architecture=WIDE, resampling_options=options).write(tmp_path)
    )
    case = replace(LONG, spacing_mm=(1.1, 1.0, 1.0))
    dense = plan(10**12, model, case)
    disk = plan(dense.bytes - 1, model, case)
    assert (dense.kind, disk.kind) == ("dense", "disk")
    assert disk.depth == dense.depth == 440
    # Of 30 logits and their weight, one head and its mean are in memory.
    assert dense.bytes - disk.bytes == 4 * (31 - 2) * 440 * 64 * 64


def test_probabilities_go_to_disk_last(many: TrainedModel) -> None:
    settings = replace(PLAIN, probabilities=True)
    found = []
    budget = 10**12
    while (best := plan(budget, many, settings=settings)).bytes <= budget:
        found.append((best.kind, best.probabilities_on_disk))
        budget = best.bytes - 1
    assert found == [("rows", False), ("rows", True), ("disk", True)]
    in_memory, on_disk = plan(10**12, many, settings=settings), plan(1, many, settings=settings)
    # The smallest has neither, and of the sums a head of 8 rows and its mean.
    assert in_memory.bytes - on_disk.bytes == 4 * 64**2 * (30 * 400 + 31 * 8 - 2 * 8)


def test_a_slice_is_enough_slice_by_slice(tmp_path: Path) -> None:
    model = load_model(RandomModel(patch=(64, 64), spacing=(1.0, 1.0), labels=MANY).write(tmp_path))
    assert plan(1, model).depth == 1


def test_draft_leaves_rows_out(many: TrainedModel) -> None:
    assert plan(1, many, settings=Settings.draft(threads=1)).depth == 8


def test_passes_at_a_time_as_many_as_there_is_memory_for(many: TrainedModel) -> None:
    plans = {n: plan(10**12, many, settings=replace(PLAIN, threads=4, streams=n)) for n in (1, 2, 3, 4)}
    assert [plan.streams for plan in plans.values()] == [1, 2, 3, 4]
    more = plans[2].bytes - plans[1].bytes
    engine = [engine_memory.engine_bytes(many, PLAIN, 30, streams) for streams in (1, 2)]
    assert more == 4 * 8 * 64 * 64 * (2 + 30) + engine[1] - engine[0]  # a patch, its mirror image, logits
    assert plans[4].bytes - plans[3].bytes == more
    four = replace(PLAIN, threads=4, streams=4)
    assert plan(plans[4].bytes, many, settings=four) == plans[4]
    assert plan(plans[4].bytes - 1, many, settings=four) == plans[3]
    assert plan(plans[1].bytes, many, settings=four) == plans[1] == plan(1, many, settings=four)
    # Sums in memory come first.
    dense = plan(10**12, many, settings=replace(four, streams=1), any_order=True).bytes
    assert plan(dense, many, settings=four, any_order=True).kind == "dense"
    assert plan(dense - 1, many, settings=four, any_order=True).kind == "disk"


@pytest.mark.parametrize(("threads", "streams"), [(1, 1), (2, 1), (14, 1), (15, 2), (16, 2), (24, 3), (31, 4), (64, 4)])
def test_one_for_every_eight_cores(threads: int, streams: int, many: TrainedModel) -> None:
    assert plan(10**12, many, settings=replace(PLAIN, threads=threads)).streams == streams
    assert plan(10**12, many, settings=replace(PLAIN, threads=threads, engine="torch")).streams == 1
    assert plan(10**12, many, settings=replace(PLAIN, threads=threads, streams=2)).streams == min(threads, 2)


def test_few_tiles_are_not_worth_it(many: TrainedModel) -> None:
    seven, eight = (Case(np.zeros((1, 8 + 4 * more, 64, 64), np.float32), (1.0, 1.0, 1.0)) for more in (6, 7))
    two = replace(PLAIN, threads=2, streams=2)
    assert plan(10**12, many, eight, two).streams == 2
    assert plan(10**12, many, seven, two).streams == 1


def test_the_budget_is_given_or_most_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 1000)
    assert budget_bytes(Settings()) == 800
    assert budget_bytes(Settings(memory=77)) == 77


def test_a_run_does_as_planned(many: TrainedModel) -> None:
    case = Case(np.random.default_rng(0).normal(size=(1, 40, 64, 64)).astype(np.float32), LONG.spacing_mm)
    smallest = plan(1, many, case)
    run = Run(
        case,
        many,
        replace(PLAIN, memory=smallest.bytes),
        FakeEngine(lambda patch, _: patch.repeat(30, 0)),
        any_order=False,
    )
    assert run.estimate.plan == smallest.kind == "rows"
    assert run.estimate.bytes == smallest.bytes
    list(run.compute())
    record = run.record()
    assert record["memory"] == {"plan": "rows", "rows": 8, "probabilities_on_disk": False}
    assert record["estimate"]["bytes"] == smallest.bytes == record["estimate"]["budget_bytes"]


def test_every_fold_has_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, three = (
        load_model(RandomModel(folds=folds).write(tmp_path / str(len(folds)))) for folds in (("0",), ("0", "1", "2"))
    )
    weights = 4 * sum(layer.weights for layer in layers(one.architecture, 1, 3, one.configuration.patch_size))
    for first, copies in ((True, 2.2 + 1.35), (False, 2.2)):
        monkeypatch.setattr(engine_memory, "is_first_load", lambda *_, first=first: first)
        more = engine_memory.engine_bytes(three, PLAIN, 3, 1) - engine_memory.engine_bytes(one, PLAIN, 3, 1)
        assert more == pytest.approx(2 * copies * weights, abs=2)
