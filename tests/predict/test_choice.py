"""A part of the image, a draft, and going on: choices of tiles on one run."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from fake_engines import FakeEngine, position_dependent
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import load_models

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel
from napari_nnunet_cpu.boxes import Box, inside
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.events import TileDone
from napari_nnunet_cpu.predict import Segmentation, TileSelection, run_to_end

pytestmark = pytest.mark.slow

PLAIN = Settings.exact(mirror=False, threads=1)
NAMES = ("3d", "2d", "turned", "splines")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    return load_models(NAMES, tmp_path_factory)


@pytest.fixture(scope="module")
def case() -> Case:
    image = np.random.default_rng(2).normal(size=(1, 17, 15, 19)).astype(np.float32)
    image[:, :, 13:] = 0
    return Case(image, (1.3, 1.0, 0.8))


def run_of(case: Case, model: TrainedModel, chosen: Settings = PLAIN) -> tuple[Run, FakeEngine]:
    engine = FakeEngine(position_dependent)
    return Run(case, model, chosen, engine, any_order=True), engine


def whole_labels(case: Case, model: TrainedModel) -> np.ndarray:
    run, _ = run_of(case, model)
    list(run.compute())
    return run.labels()


@pytest.fixture(scope="module")
def wholes(case: Case, models: dict[str, TrainedModel]) -> dict[str, np.ndarray]:
    return {name: whole_labels(case, model) for name, model in models.items()}


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    starts = [draw(st.integers(0, length - 1)) for length in (17, 15, 19)]
    return Box(*((start, draw(st.integers(start + 1, n))) for start, n in zip(starts, (17, 15, 19), strict=True)))


@pytest.mark.parametrize("name", NAMES)
@given(st.lists(boxes(), min_size=1, max_size=3))
@settings(max_examples=15)
def test_in_a_box_the_labels_are_those_of_the_whole_run(
    name: str, models: dict[str, TrainedModel], case: Case, wholes: dict[str, np.ndarray], wanted: list[Box]
) -> None:
    """Also when one box follows another, and the whole follows them; no tile is computed twice."""
    expected = wholes[name]
    run, engine = run_of(case, models[name], replace(PLAIN, box=wanted[0]))
    for box in wanted:
        run.choose(box)
        final = [part for event in run.compute() for part in event.final]
        assert run.complete
        assert np.array_equal(run.labels(), inside(expected, box))
        for part in final:
            assert np.array_equal(run.final_labels[part.slices], expected[part.slices])
            assert all(a <= start < stop <= b for (a, b), (start, stop) in zip(box, part, strict=True))
    run.choose()
    list(run.compute())
    assert np.array_equal(run.labels(), expected)
    assert np.array_equal(run.final_labels, expected)
    assert len(engine.calls) == len(run.tiles) == len(run.grid)


def test_a_box_computes_its_tiles_only(case: Case, models: dict[str, TrainedModel]) -> None:
    run, engine = run_of(case, models["3d"], replace(PLAIN, box=((0, 2), (0, 2), (0, 2))))
    list(run.compute())
    assert 0 < len(engine.calls) == len(run.tiles) < len(run.grid)
    assert run.record()["tiles"] == len(run.tiles)
    assert run.estimate.tiles == len(run.tiles)


def test_what_is_cropped_away_is_background(case: Case, models: dict[str, TrainedModel]) -> None:
    run, engine = run_of(case, models["3d"], replace(PLAIN, box=((0, 5), (13, 15), (0, 5))))
    assert list(run.compute()) == []
    assert run.complete
    assert not engine.calls
    assert not run.labels().any()


@pytest.mark.parametrize("name", ["3d", "2d", "turned"])
def test_a_draft_is_carried_on(name: str, models: dict[str, TrainedModel], case: Case) -> None:
    run, engine = run_of(case, models[name], Settings.draft(precision="f32"))
    list(run.compute())
    draft = len(engine.calls)
    assert draft == len(run.tiles) < len(run.grid)
    assert run.complete
    first = run.labels()
    run.choose(box=((3, 9), (2, 9), (0, 9)))
    list(run.compute())
    expected = whole_labels(case, models[name])
    assert np.array_equal(run.labels(), inside(expected, Box((3, 9), (2, 9), (0, 9))))
    run.choose()
    events = list(run.compute())
    assert len(engine.calls) == len(run.grid)
    assert np.array_equal(run.labels(), expected)
    assert events[-1].done == events[-1].total == len(run.grid)
    run.choose(cover=True)  # what is there is better than a draft
    assert np.array_equal(run.labels(), expected)
    assert not np.array_equal(first, expected)


def test_a_part_of_a_draft(models: dict[str, TrainedModel], case: Case) -> None:
    run, engine = run_of(case, models["3d"], replace(Settings.draft(precision="f32"), box=((0, 4), (0, 4), (0, 4))))
    assert len(run.tiles) == 1 < len(run.grid.covering_tiles())
    list(run.compute())
    run.choose(cover=True)
    list(run.compute())
    whole, _ = run_of(case, models["3d"], Settings.draft(precision="f32"))
    list(whole.compute())
    assert np.array_equal(run.labels(), whole.labels())
    assert len(engine.calls) == len(run.grid.covering_tiles())


def test_a_choice_may_be_changed_half_way(models: dict[str, TrainedModel], case: Case) -> None:
    """Tiles that were planned and are not wanted any more hold nothing up."""
    run, engine = run_of(case, models["3d"])
    iterator = run.compute()
    for _ in range(3):
        next(iterator)
    iterator.close()
    run.choose(cover=True)
    list(run.compute())
    assert run.complete
    assert list(run._output.finality.open_boxes()) == []
    run.choose()
    list(run.compute())
    assert np.array_equal(run.labels(), whole_labels(case, models["3d"]))
    assert len(engine.calls) == len(run.grid)


@pytest.mark.parametrize("box", [((0, 18), (0, 1), (0, 1)), ((0, 1), (0, 1), (20, 21))])
def test_a_box_out_of_the_image_is_refused(box: Box, case: Case, models: dict[str, TrainedModel]) -> None:
    message = r"the box .* exceeds the image, whose shape is \(17, 15, 19\): give a box inside it"
    with pytest.raises(SettingsError, match=message):
        run_of(case, models["3d"], replace(PLAIN, box=box))
    run, _ = run_of(case, models["3d"])
    with pytest.raises(SettingsError, match=message):
        run.choose(box)
    assert run.tiles == run.grid.tiles()


def test_a_segmentation_is_stopped_and_gone_on_with(
    case: Case, models: dict[str, TrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(position_dependent)
    monkeypatch.setattr("napari_nnunet_cpu.predict.run_engine.choose_engine", lambda *_: engine)
    segmentation = Segmentation(case, models["3d"], PLAIN, any_order=True)
    assert segmentation.partial() is None
    for event in segmentation.steps():
        if isinstance(event, TileDone) and event.done == 5:
            segmentation.control.stop()
    assert segmentation.result is None
    assert len(engine.calls) == 5
    segmentation.control.restart()
    expected = whole_labels(case, models["3d"])
    early = segmentation.partial().labels
    assert early.any()
    assert np.array_equal(early[early > 0], expected[early > 0])
    corner = Box.whole((3, 3, 3))
    segmentation.control.selection = TileSelection(corner)
    assert np.array_equal(run_to_end(segmentation).labels, inside(expected, corner))
    segmentation.control.selection = TileSelection()
    result = run_to_end(segmentation)
    assert np.array_equal(result.labels, expected)
    assert len(engine.calls) == result.provenance["tiles_done"] == result.provenance["tiles"]
    assert len(result.provenance["runs"]) == 1


def test_an_ensemble_is_chosen_once(case: Case, models: dict[str, TrainedModel]) -> None:
    segmentation = Segmentation(case, [models["3d"], models["turned"]], PLAIN)
    segmentation.control.selection = TileSelection(cover=True)
    with closing(segmentation.steps()) as steps:
        for _ in range(4):
            next(steps)
    assert segmentation.settings.cover
    segmentation.control.selection = TileSelection()
    with pytest.raises(SettingsError, match="other tiles can't be chosen for an ensemble that has begun"):
        run_to_end(segmentation)
