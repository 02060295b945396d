"""A run that is taken up where an earlier one ended is the run that nobody disturbed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engines import FakeEngine, position_dependent
from random_model import RandomModel, smooth_image
from small_models import MODELS, load_models
from steered import StopWhen

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, load_model
from napari_nnunet_cpu.boxes import Box, inside
from napari_nnunet_cpu.errors import CaseError, SettingsError
from napari_nnunet_cpu.predict import Segmentation, run_to_end, segment, setup
from napari_nnunet_cpu.predict.planning.memory import MemoryPlan, plan_memory
from napari_nnunet_cpu.predict.resume import RunSaver, SavedRunList
from napari_nnunet_cpu.predict.resume.saved_runs import saved_runs
from napari_nnunet_cpu.predict.tiles.finality import window_depth

pytestmark = pytest.mark.slow

PLAIN = Settings.exact(mirror=False, threads=1)
NAMES = ("3d", "2d", "regions", "turned", "splines")
KINDS = ("dense", "rows", "disk")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    return load_models(NAMES, tmp_path_factory)


@pytest.fixture(scope="module")
def case() -> Case:
    image = np.random.default_rng(2).normal(size=(1, 19, 11, 13)).astype(np.float32)
    image[:, :, 10:] = 0
    return Case(image, (1.3, 1.0, 0.8), name="knee")


class Killed(Exception):
    """Ends a run with nothing said to it."""


class Counting(FakeEngine):
    """Ends the run at a pass, with nothing of it having been saved since the last save."""

    def __init__(self, last: int = 10**9) -> None:
        super().__init__(position_dependent)
        self.last = last

    def forward(self, patch: np.ndarray, fold: int) -> np.ndarray:
        if len(self.calls) == self.last:
            raise Killed
        return super().forward(patch, fold)


def run_as(
    kind: str,
    case: Case,
    model: TrainedModel,
    folder: Path | None = None,
    settings: Settings = PLAIN,
    last: int = 10**9,
) -> tuple[Run, Counting]:
    """A run that holds its sums in a way of our choice where it may, and its engine."""

    def planned(*arguments: Any) -> MemoryPlan:
        plan = plan_memory(*arguments)
        _, _, _, geometry, grid, export, _, any_order, *_ = arguments
        depth = plan.depth
        if kind == "rows" and not any_order:
            starts = (grid.covering if settings.cover else grid.starts)[0]
            depth = window_depth(grid, export, geometry.cropped_shape[0], starts)
        as_said = kind != "rows" or not any_order
        return replace(plan, kind=kind if as_said else "disk", depth=depth, probabilities_on_disk=False)

    engine = Counting(last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_nnunet_cpu.predict.planning.plan.plan_memory", planned)
        in_rows = kind == "rows"
        limited = replace(settings, memory=10**12)
        return Run(case, model, limited, engine, folder=folder, any_order=not in_rows), engine


def killed(run: Run) -> int:
    """Go on until the engine ends it; how many tiles were computed."""
    with contextlib.suppress(Killed):
        list(run.compute())
    return len(run._tiles.done)


def undisturbed(case: Case, model: TrainedModel, settings: Settings = PLAIN) -> Run:
    run, _ = run_as("dense", case, model, settings=settings)
    list(run.compute())
    return run


def close(run: Run) -> None:
    assert run.saving is not None
    run.saving.file.close()


@pytest.fixture(scope="module")
def wholes(models: dict[str, TrainedModel], case: Case) -> dict[str, Run]:
    """Runs that nobody disturbed."""
    return {name: undisturbed(case, model) for name, model in models.items()}


@pytest.fixture
def no_last_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends saves what it has; one that is killed does not."""
    whole = RunSaver.save

    def only_when_due(self: Any) -> None:
        if sys._getframe(1).f_code.co_name == "note":
            whole(self)

    monkeypatch.setattr(RunSaver, "save", only_when_due)


@pytest.mark.usefixtures("no_last_save")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_tile(
    kind: str, name: str, models: dict[str, TrainedModel], wholes: dict[str, Run], case: Case, tmp_path: Path
) -> None:
    """Wherever it is, the run goes on from the file, and less than a row of tiles is computed again."""
    expected = wholes[name]
    row = len(expected.grid.starts[1]) * len(expected.grid.starts[2])
    for last in range(1, len(expected.grid), max(len(expected.grid) // 10, 1)):
        first, engine = run_as(kind, case, models[name], tmp_path, last=last)
        assert not first._tiles.done
        assert killed(first) == last == len(engine.calls)
        close(first)
        run, engine = run_as(kind, case, models[name], tmp_path)
        taken_up = len(run._tiles.done)
        assert last - taken_up < row
        events = list(run.compute())
        assert len(engine.calls) == len(expected.grid) - taken_up
        assert run.complete
        assert np.array_equal(run.labels(), expected.labels())
        assert np.array_equal(run.final_labels, expected.labels())
        announced = np.zeros(case.shape, int)
        for event in events:
            for box in event.final:
                announced[box.slices] += 1
        kept = run.geometry.crop(announced)
        assert (kept == 1).all()
        assert announced.sum() == kept.size
        assert run.record()["tiles_resumed"] == taken_up
        assert run.saving is not None
        run.saving.file.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["3d", "2d", "splines"])
@pytest.mark.parametrize("kinds", [("rows", "dense"), ("dense", "rows"), ("rows", "disk", "rows"), ("dense", "disk")])
def test_memory_may_be_another_each_time(
    kinds: tuple[str, ...],
    name: str,
    models: dict[str, TrainedModel],
    wholes: dict[str, Run],
    case: Case,
    tmp_path: Path,
) -> None:
    """Stopped again and again, with a part computed each time: no tile is computed twice."""
    expected = wholes[name]
    calls, turn = 0, 0
    while True:
        run, engine = run_as(kinds[turn % len(kinds)], case, models[name], tmp_path)
        stop = max(len(run.grid) // 5, 1)
        list(run.compute(control=StopWhen(lambda engine=engine, stop=stop: len(engine.calls) >= stop)))
        calls, turn = calls + len(engine.calls), turn + 1
        if run.complete:
            break
        close(run)
    assert turn > 4
    assert calls == len(run.grid)
    assert np.array_equal(run.labels(), expected.labels())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["3d", "2d", "turned"])
@pytest.mark.parametrize(
    "choices",
    [
        ({"box": ((3, 9), (2, 5), (4, 9))}, {}),
        ({"cover": True}, {}),
        ({"probabilities": True}, {}),
        ({"cover": True}, {"box": ((0, 4), (0, 4), (0, 13))}, {}),
        ({"box": ((3, 9), (2, 5), (4, 9))}, {"probabilities": True}),
    ],
    ids=str,
)
def test_more_is_made_of_it(
    choices: tuple[dict[str, Any], ...],
    name: str,
    kind: str,
    models: dict[str, TrainedModel],
    wholes: dict[str, Run],
    case: Case,
    tmp_path: Path,
) -> None:
    """A part, a draft or probabilities first and the rest in a later process, which is ended at each tile, too."""
    expected = wholes[name]
    computed = 0
    for chosen in choices[:-1]:
        run, engine = run_as(kind, case, models[name], tmp_path, replace(PLAIN, **chosen))
        list(run.compute())
        assert run.complete
        computed += len(engine.calls)
        close(run)
    last = replace(PLAIN, **choices[-1])
    while True:
        run, engine = run_as(kind, case, models[name], tmp_path, last)
        step = max(len(run.grid) // 6, 1)
        list(run.compute(control=StopWhen(lambda engine=engine, step=step: len(engine.calls) >= step)))
        computed += len(engine.calls)
        if run.complete:
            break
        close(run)
    assert np.array_equal(run.labels(), expected.labels())
    if not last.probabilities:
        assert computed == len(run.grid)
    else:
        whole = undisturbed(case, models[name], last)
        np.testing.assert_allclose(run.probabilities().array, whole.probabilities().array, atol=1e-6)


def test_probabilities_can_not_be_made_of_labels(models: dict[str, TrainedModel], case: Case, tmp_path: Path) -> None:
    run, _ = run_as("dense", case, models["3d"], tmp_path)
    list(run.compute())
    close(run)
    settings = replace(PLAIN, probabilities=True)
    run, engine = run_as("dense", case, models["3d"], tmp_path, settings)
    list(run.compute())
    assert len(engine.calls) == len(run.grid)
    assert np.array_equal(run.probabilities().array, undisturbed(case, models["3d"], settings).probabilities().array)


def test_other_tiles_can_not_be_chosen_where_rows_are_forgotten(
    models: dict[str, TrainedModel], case: Case, tmp_path: Path
) -> None:
    run, _ = run_as("rows", case, models["3d"], tmp_path)
    with pytest.raises(SettingsError, match="the run is saved, and sums of finished rows are forgotten"):
        run.choose(box=((0, 1), (0, 1), (0, 1)))
    run.choose()
    list(run.compute())
    assert np.array_equal(run.labels(), undisturbed(case, models["3d"]).labels())


@pytest.mark.usefixtures("no_last_save")
def test_rows_between_those_of_the_labels_are_held_for_tiles_to_come(
    models: dict[str, TrainedModel], tmp_path: Path
) -> None:
    """Of four rows that a model sees for each of the image, labels depend on two, but tiles begin in any."""
    image = np.random.default_rng(4).normal(size=(1, 7, 8, 9)).astype(np.float32)
    case = Case(image, (4.0, 1.0, 1.0))
    expected = undisturbed(case, models["3d"])
    for last in range(1, len(expected.grid)):
        first, _ = run_as("rows", case, models["3d"], tmp_path, last=last)
        killed(first)
        close(first)
        run, _ = run_as("rows", case, models["3d"], tmp_path)
        list(run.compute())
        assert np.array_equal(run.labels(), expected.labels())
        run.saving.file.remove()


@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_an_earlier_process_are_removed_once_their_labels_are_saved(
    kind: str, models: dict[str, TrainedModel], wholes: dict[str, Run], case: Case, tmp_path: Path
) -> None:
    first, _ = run_as(kind, case, models["3d"], tmp_path, last=len(wholes["3d"].grid) // 2)
    killed(first)
    close(first)
    run, _ = run_as(kind, case, models["3d"], tmp_path)
    assert run.saving is not None
    assert list(run.saving.file.sums())
    list(run.compute())
    assert not list(run.saving.file.sums())
    assert run.saving.file.has_labels
    close(run)


@pytest.mark.parametrize("kind", ["dense", "disk"])
def test_other_tiles_may_be_chosen_of_a_saved_run_where_all_rows_are_held(
    kind: str, models: dict[str, TrainedModel], wholes: dict[str, Run], case: Case, tmp_path: Path
) -> None:
    run, engine = run_as(kind, case, models["3d"], tmp_path)
    run.choose(Box((0, 5), (0, 5), (0, 5)))
    list(run.compute())
    part = len(engine.calls)
    assert 0 < part < len(run.grid)
    run.choose()
    list(run.compute())
    assert len(engine.calls) == len(run.grid)
    assert np.array_equal(run.labels(), wholes["3d"].labels())
    close(run)


def test_in_a_box_only_what_is_in_it_is_announced(models: dict[str, TrainedModel], case: Case, tmp_path: Path) -> None:
    expected = undisturbed(case, models["3d"]).labels()
    run, _ = run_as("dense", case, models["3d"], tmp_path)
    list(run.compute())
    close(run)
    box = Box((3, 9), (2, 5), (4, 9))
    run, engine = run_as("dense", case, models["3d"], tmp_path, replace(PLAIN, box=box))
    (event,) = run.compute()
    assert not engine.calls
    assert sum(np.prod([stop - start for start, stop in part]) for part in event.final) == 6 * 3 * 5
    assert np.array_equal(run.labels(), inside(expected, box))


@pytest.mark.parametrize("other", ["image", "model", "settings"])
def test_another_run_does_not_take_it_up(
    other: str, models: dict[str, TrainedModel], case: Case, tmp_path: Path
) -> None:
    run, _ = run_as("dense", case, models["3d"], tmp_path)
    list(run.compute())
    close(run)
    image = case.channels.copy()
    image[0, 5, 5, 5] += 1
    changed = {
        "image": (replace(case, channels=image), models["3d"], PLAIN),
        "model": (case, models["splines"], PLAIN),
        "settings": (case, models["3d"], replace(PLAIN, step=0.4)),
    }[other]
    run, engine = run_as("dense", changed[0], changed[1], tmp_path, changed[2])
    list(run.compute())
    assert len(engine.calls) == len(run.grid)
    assert np.array_equal(run.labels(), undisturbed(*changed).labels())


def test_a_closed_generator_saves_what_is_there(models: dict[str, TrainedModel], case: Case, tmp_path: Path) -> None:
    run, _ = run_as("dense", case, models["3d"], tmp_path)
    iterator = run.compute()
    for _ in range(3):
        next(iterator)
    iterator.close()
    close(run)
    assert [(found.image, found.tiles_done, found.tiles, found.shape) for found in saved_runs(tmp_path)] == [
        ("knee", 3, len(run.grid), case.shape)
    ]
    again, _ = run_as("dense", case, models["3d"], tmp_path)
    assert again._tiles.done == {tile.index for tile in run.tiles[:3]}


def test_a_full_disk_does_not_end_the_run(models: dict[str, TrainedModel], case: Case, tmp_path: Path) -> None:
    run, _ = run_as("dense", case, models["3d"], tmp_path)
    assert run.saving is not None
    assert run.saving.file._database is not None
    run.saving.file._database.execute("PRAGMA max_page_count = 12")
    list(run.compute())
    assert np.array_equal(run.labels(), undisturbed(case, models["3d"]).labels())
    assert "disk is full" in str(run.saving.file.problem)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_grows_by_labels_alone(kind: str, models: dict[str, TrainedModel], tmp_path: Path) -> None:
    """Sums that are needed no more make room for others: noise along the first axis costs what its labels take."""
    sizes = []
    for length in (24, 96):
        image = np.random.default_rng(0).normal(size=(1, length, 16, 16)).astype(np.float32)
        run, _ = run_as(kind, Case(image, (1.0, 1.0, 1.0)), models["3d"], tmp_path)
        assert run.saving is not None
        sizes.append(max(run.saving.file.path.stat().st_size for _ in run.compute()))
    assert sizes[1] - sizes[0] < (96 - 24) * 16 * 16 + 8 * 4096  # a byte a voxel, and some pages half full
    assert sizes[1] < 4 * 4 * 96 * 16 * 16 / 3  # of the sums of all


def test_a_run_that_can_not_be_made_locks_no_one_out(
    models: dict[str, TrainedModel], case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(setup, "Patches", fails)
        with pytest.raises(CaseError) as kept:
            run_as("dense", case, models["3d"], tmp_path)
    run, _ = run_as("dense", case, models["3d"], tmp_path)
    assert run.saving is not None
    assert run.saving.file.problem is None
    assert kept.value is not None


LOW = RandomModel(patch=(8, 8, 8), spacing=(2.0, 2.0, 2.0), called="3d_lowres", normalization="NoNormalization")
MEMBERS = {
    "cascade": [RandomModel(patch=(8, 8, 8), first_stage=LOW, normalization="NoNormalization")],
    "ensemble": [
        RandomModel(patch=(8, 8), spacing=(1.0, 1.0), normalization="NoNormalization", seed=1),
        RandomModel(patch=(8, 8, 8), normalization="NoNormalization", seed=2),
    ],
    "one": [RandomModel(patch=(8, 8, 8), normalization="NoNormalization")],
}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_segmentation_is_stopped_again_and_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [load_model(member.write(tmp_path / "models")) for member in MEMBERS[name]]
    case = Case(smooth_image((22, 16, 17)), (1.0, 1.0, 1.0))
    engines: list[Counting] = []

    def chosen(*_: Any) -> Counting:
        engines.append(Counting())
        return engines[-1]

    monkeypatch.setattr("napari_nnunet_cpu.predict.run_engine.choose_engine", chosen)
    expected = run_to_end(Segmentation(case, models, PLAIN))
    whole = sum(len(engine.calls) for engine in engines)
    folder = tmp_path / "runs"
    computed, turns, result = 0, 0, None
    while result is None:
        engines.clear()
        control = StopWhen(lambda: sum(len(engine.calls) for engine in engines) >= whole // 4)
        segmentation = Segmentation(case, models, PLAIN, folder=folder, control=control)
        for _ in segmentation.steps():
            pass
        result = segmentation.result
        computed, turns = computed + sum(len(engine.calls) for engine in engines), turns + 1
        assert segmentation.files.problem is None
        if result is None:
            segmentation.close()
    assert turns > 2
    assert computed == whole
    assert np.array_equal(result.labels, expected.labels)
    assert result.provenance["tiles_done"] == result.provenance["tiles"]
    segmentation.files.remove()
    assert list(folder.iterdir()) == []


def test_one_call_lets_others_have_the_folder(
    models: dict[str, TrainedModel], case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Counting()
    monkeypatch.setattr("napari_nnunet_cpu.predict.run_engine.choose_engine", lambda *_: engine)
    labels = segment(case, models["3d"], PLAIN, folder=tmp_path).labels
    calls = len(engine.calls)
    assert [found.tiles_done for found in saved_runs(tmp_path)] == [calls]
    assert np.array_equal(segment(case, models["3d"], PLAIN, folder=tmp_path).labels, labels)
    assert len(engine.calls) == calls


def go_on(said: Connection, model: Path, folder: Path | None) -> None:
    """A process that may be killed: a run with a real network, which says so at each tile, and then its labels."""
    case = Case(smooth_image((30, 14, 15)), (1.0, 1.0, 1.0))
    settings = Settings.exact(mirror=False, engine="torch", device="cpu", threads=1)
    run = Run(case, load_model(model), settings, folder=folder)
    for _ in run.compute():
        said.send(None)
    if run.saving is not None:
        run.saving.file.remove()
    said.send(run.labels())


def told(said: Connection) -> Iterator[np.ndarray | None]:
    """What a process says, until it ends."""
    with said, contextlib.suppress(EOFError, OSError):
        while True:
            yield said.recv()


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs a forkserver")
@pytest.mark.parametrize("name", ["3d", "2d"])
def test_fifty_kills(name: str, tmp_path: Path) -> None:
    """With a real network, at moments that nobody chose; each process goes on from what the one before left.

    However slow the computer is, they get on: each is let go for some tiles, and killed in one of those after them.
    They are forked by a process that has loaded the libraries and has none of this one's threads.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["napari_nnunet_cpu.predict", "pytest", "scipy.ndimage", "skimage", "torch"])
    model, folder = RandomModel(**MODELS[name]).write(tmp_path / "model"), tmp_path / "runs"

    def started(folder: Path | None) -> tuple[BaseProcess, Iterator[np.ndarray | None]]:
        said, theirs = context.Pipe(duplex=False)
        process = context.Process(target=go_on, args=(theirs, model, folder))
        process.start()
        theirs.close()
        return process, told(said)

    _, said = started(None)
    next(said)
    start = time.perf_counter()
    *tiles, expected = said
    seconds = (time.perf_counter() - start) / len(tiles)  # of a tile
    rng, kills, ends, resumed = random.Random(1), 0, 0, 0
    while kills < 25 or not ends:
        resumed += bool(saved_runs(folder))
        process, said = started(folder)
        before = list(islice(said, rng.randrange(len(tiles) // 2)))
        process.join(rng.uniform(0, 4) * seconds)
        process.kill()
        process.join()
        labels = [found for found in (*before, *said) if found is not None]
        assert all(np.array_equal(found, expected) for found in labels)
        if process.exitcode == -signal.SIGKILL:
            kills += 1
        else:
            assert (process.exitcode, len(labels)) == (0, 1)
            ends += 1
    assert kills >= 25
    assert resumed > 5
    *_, last = started(folder)[1]
    assert np.array_equal(last, expected)
    assert list(folder.iterdir()) == []


def test_the_list_of_saved_runs_is_read_again_where_files_came_or_went(tmp_path: Path, monkeypatch) -> None:
    reads: list[Path] = []
    found = [object()]

    def noted(folder: Path) -> list[object]:
        reads.append(folder)
        return list(found)

    monkeypatch.setitem(SavedRunList.in_folder.__globals__, "saved_runs", noted)
    known, folder = SavedRunList(), tmp_path / "runs"
    assert [known.in_folder(folder), known.in_folder(folder)] == [found, found]
    assert reads == [folder]
    folder.mkdir()
    found.append(object())
    assert known.in_folder(folder) == found
    os.utime(folder, ns=(1, 1))  # as a new file changes it
    known.in_folder(folder)
    known.in_folder(folder)
    assert reads == [folder] * 3
    known.in_folder(tmp_path)
    assert reads[3:] == [tmp_path]
