"""A run with little memory is the run with much: dense, row by row, and on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engines import FakeEngine, position_dependent
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from small_models import MODELS, load_models

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel
from napari_nnunet_cpu.errors import MemoryBudgetError, SettingsError
from napari_nnunet_cpu.export.probabilities import ProbabilityExport
from napari_nnunet_cpu.predict.planning.memory import MemoryPlan, plan_memory
from napari_nnunet_cpu.predict.tiles.finality import window_depth

KINDS = ("dense", "rows", "disk")
PLAIN = Settings.exact(mirror=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    return load_models(MODELS, tmp_path_factory)


def run_as(
    kind: str,
    case: Case,
    model: TrainedModel,
    settings: Settings = PLAIN,
    on_disk: bool = False,
    engine: FakeEngine | None = None,
) -> Run:
    """A run that holds its sums in a way of our choice, whatever memory there is."""

    def planned(*arguments: Any) -> MemoryPlan:
        plan = plan_memory(*arguments)
        depth = plan.depth
        if kind == "rows":
            _, _, _, geometry, grid, export, *_ = arguments
            starts = (grid.covering if settings.cover else grid.starts)[0]
            depth = window_depth(grid, export, geometry.cropped_shape[0], starts)
        return replace(plan, kind=kind, depth=depth, probabilities_on_disk=on_disk)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_nnunet_cpu.predict.planning.plan.plan_memory", planned)
        return Run(case, model, replace(settings, memory=10**12), engine or FakeEngine(position_dependent))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Noise of any shape, with zeros around it that are cropped away, at a spacing that asks for resampling or not.

    Rows of tiles lie along the first axis; along the others two or three are enough.
    """
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 9), st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = np.pad(
        rng.normal(size=shape).astype(np.float32), [draw(st.tuples(*[st.integers(0, 2)] * 2)) for _ in "zyx"]
    )
    spacing = draw(st.tuples(*[st.sampled_from([1.0, 0.6, 1.7, 3.4])] * 3))
    return Case(image[None], spacing)


@pytest.mark.parametrize("name", MODELS)
@given(cases(), st.sampled_from([PLAIN, replace(PLAIN, cover=True), replace(PLAIN, step=0.3)]))
@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_they_are_one(name: str, models: dict[str, TrainedModel], case: Case, settings: Settings) -> None:
    """Bit for bit, and what is called final is so from then on, and is called so once."""
    found = {}
    for kind in KINDS:
        run = run_as(kind, case, models[name], settings)
        events = list(run.compute())
        found[kind] = run.labels()
        boxes = np.zeros(case.shape, int)
        for event in events:
            for box in event.final:
                boxes[box.slices] += 1
        kept = run.geometry.crop(boxes)
        assert (kept == 1).all()
        assert boxes.sum() == kept.size
        assert np.array_equal(run.final_labels, found[kind])
    assert np.array_equal(found["rows"], found["dense"])
    assert np.array_equal(found["disk"], found["dense"])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_final_when_they_are_announced(kind: str, name: str, models: dict[str, TrainedModel]) -> None:
    image = np.random.default_rng(3).normal(size=(1, 21, 13, 14)).astype(np.float32)
    image[:, :2] = image[:, :, :, 12:] = 0
    case = Case(image, (1.3, 1.0, 1.0))
    finished = run_as("dense", case, models[name])
    list(finished.compute())
    expected = finished.labels()
    run = run_as(kind, case, models[name])
    seen = 0
    for event in run.compute():
        for box in event.final:
            assert np.array_equal(run.final_labels[box.slices], expected[box.slices])
            assert np.array_equal(run.labels()[box.slices], expected[box.slices])
            seen += 1
    assert seen == 1 if name == "splines" else seen > 1
    assert run.record()["first_final_seconds"] > 0
    with pytest.raises(ValueError, match="read-only"):
        run.final_labels[0] = 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop_after", [0, 1, 5, 9, 17, 30])
def test_labels_of_some_tiles_are_the_same(kind: str, stop_after: int, models: dict[str, TrainedModel]) -> None:
    """Also of rows that the window has not come to."""
    case = Case(np.random.default_rng(4).normal(size=(1, 30, 11, 11)).astype(np.float32), (0.7, 1.0, 1.0))

    def part(kind: str) -> tuple[Run, np.ndarray]:
        run = run_as(kind, case, models["3d"])
        for event in run.compute() if stop_after else ():
            if event.done == stop_after:
                break
        return run, run.labels()

    run, found = part(kind)
    assert np.array_equal(found, part("dense")[1])
    list(run.compute())
    whole = run_as("dense", case, models["3d"])
    list(whole.compute())
    assert np.array_equal(run.labels(), whole.labels())


@pytest.mark.parametrize("kind", ["dense", "disk"])
@given(st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=10)
def test_tiles_in_any_order(kind: str, models: dict[str, TrainedModel], random: object) -> None:
    case = Case(np.random.default_rng(5).normal(size=(1, 17, 11, 12)).astype(np.float32), (1.2, 1.0, 1.0))
    straight = run_as("rows", case, models["3d"])
    list(straight.compute())
    run = run_as(kind, case, models["3d"])
    order = list(run.tiles)
    random.shuffle(order)
    boxes = [box for event in run.compute(order) for box in event.final]
    assert sum(np.prod(box.shape) for box in boxes) == np.prod(case.shape)
    assert np.array_equal(run.final_labels, run.labels())
    # The sums are rounded in another order, and no two heads come as near to each other as that.
    assert np.array_equal(run.labels(), straight.labels())


def test_rows_take_tiles_row_by_row_only(models: dict[str, TrainedModel]) -> None:
    case = Case(np.random.default_rng(6).normal(size=(1, 30, 11, 11)).astype(np.float32), (1.0, 1.0, 1.0))
    run = run_as("rows", case, models["3d"])
    row = [tile for tile in run.tiles if tile.start[0] == 0]
    with pytest.raises(SettingsError, match="too far from the rows in memory"):
        list(run.compute([row[0], run.tiles[-1]]))
    assert run.record()["tiles_done"] == 1
    list(run.compute(row[::-1]))  # within a row in any order
    list(run.compute())
    whole = run_as("dense", case, models["3d"])
    list(whole.compute([row[0], *row[::-1], *whole.tiles]))
    assert np.array_equal(run.labels(), whole.labels())


def test_a_draft_row_by_row_can_not_be_carried_on(models: dict[str, TrainedModel]) -> None:
    case = Case(np.random.default_rng(6).normal(size=(1, 30, 11, 11)).astype(np.float32), (1.0, 1.0, 1.0))
    run = run_as("rows", case, models["3d"], Settings.draft())
    list(run.compute())
    labels = run.labels()
    with pytest.raises(SettingsError, match="sums of finished rows are forgotten"):
        list(run.compute(run.grid.tiles()))
    assert np.array_equal(run.labels(), labels)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("on_disk", [False, True])
def test_probabilities_are_the_same(kind: str, on_disk: bool, name: str, models: dict[str, TrainedModel]) -> None:
    image = np.random.default_rng(7).normal(size=(1, 19, 12, 13)).astype(np.float32)
    image[:, :, :2] = 0
    case = Case(image, (1.3, 0.8, 1.0))
    settings = replace(PLAIN, probabilities=True)
    run, plain = run_as(kind, case, models[name], settings, on_disk), run_as("dense", case, models[name])
    list(run.compute())
    list(plain.compute())
    whole = run_as("dense", case, models[name], settings)
    list(whole.compute())
    assert isinstance(run.plan.export, ProbabilityExport)
    assert np.array_equal(run.probabilities().array, whole.probabilities().array)
    assert np.array_equal(run.labels(), plain.labels())
    assert run.probabilities().on_disk == on_disk
    with pytest.raises(SettingsError, match="this run has no probabilities"):
        plain.probabilities()


def test_probabilities_of_some_tiles(models: dict[str, TrainedModel]) -> None:
    case = Case(np.random.default_rng(8).normal(size=(1, 24, 8, 8)).astype(np.float32), (1.0, 1.0, 1.0))
    run = run_as("rows", case, models["3d"], replace(PLAIN, probabilities=True))
    next(run.compute())
    found = run.probabilities().array
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    assert (found[:, 8:] == np.float32(1 / 3)).all()
    assert not (found[:, :8] == np.float32(1 / 3)).all()
    list(run.compute())
    assert not (run.probabilities().array[:, 8:] == np.float32(1 / 3)).all(axis=0).any()


def test_what_fits_in_no_way_is_refused_before_anything_is_made(
    models: dict[str, TrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(np.zeros((1, 40, 40, 40), np.float32), (1.0, 1.0, 1.0), name="knee")
    monkeypatch.setattr(np, "empty", lambda *_, **__: pytest.fail("memory was taken"))
    with pytest.raises(
        MemoryBudgetError,
        match=r"^knee needs about \d+ MB of memory with this model, but 1 MB are allowed: close other ",
    ):
        Run(case, models["3d"], replace(PLAIN, memory=10**6))
    monkeypatch.setattr("napari_nnunet_cpu.predict.planning.memory.free_memory_bytes", lambda: 2 * 10**6)
    with pytest.raises(MemoryBudgetError, match="2 MB are free"):
        Run(case, models["3d"])


def test_a_full_disk_is_said(models: dict[str, TrainedModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    case = Case(np.ones((1, 40, 40, 40), np.float32), (1.0, 1.0, 1.0))
    with pytest.raises(MemoryBudgetError, match="has 1 MB free, but needs 1 MB for arrays that do not fit"):
        run_as("disk", case, models["3d"])
