"""The loop: which tiles are computed when, how often, and what is told. No network: a fake engine stands in."""

import importlib.metadata
import json
from itertools import count

import numpy as np
import pytest
from fake_engines import FakeEngine, nearest_integer, position_dependent
from steered import StopWhen

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, resources
from napari_nnunet_cpu.engines.agreement import Agreement
from napari_nnunet_cpu.errors import EngineError, SettingsError
from napari_nnunet_cpu.events import TileDone
from napari_nnunet_cpu.predict.tiles.grid import Tile

PLAIN = Settings.exact(mirror=False)


@pytest.fixture
def case() -> Case:
    image = np.random.default_rng(5).normal(size=(1, 11, 13, 17)).astype(np.float32)
    return Case(image, (1.0, 1.0, 1.0))


def straight(case: Case, model: TrainedModel) -> np.ndarray:
    """Labels of all tiles in grid order."""
    run = Run(case, model, PLAIN, FakeEngine(position_dependent))
    list(run.compute())
    return run.labels()


def test_fake_engine_makes_a_hard_case(case: Case, model: TrainedModel) -> None:
    assert np.bincount(straight(case, model).ravel(), minlength=3).min() > 0.05 * 11 * 13 * 17


def test_every_tile_once(case: Case, model: TrainedModel) -> None:
    engine = FakeEngine(position_dependent)
    run = Run(case, model, PLAIN, engine)
    assert len(run.tiles) == 2 * 3 * 4
    assert not run.complete
    assert len(list(run.compute())) == len(engine.calls) == len(run.tiles)
    assert run.complete
    labels = run.labels()
    assert list(run.compute()) == []
    assert len(engine.calls) == len(run.tiles)
    assert np.array_equal(run.labels(), labels)


def test_patches_are_the_tiles_of_the_image(case: Case, model: TrainedModel) -> None:
    engine = FakeEngine(position_dependent)
    run = Run(case, model, PLAIN, engine)
    list(run.compute())
    for tile, (_, patch) in zip(run.tiles, engine.calls, strict=True):
        assert np.array_equal(patch, case.channels[:, *tile.box.slices])


def test_events_count_up(case: Case, model: TrainedModel) -> None:
    run = Run(case, model, PLAIN, FakeEngine(position_dependent))
    events = list(run.compute())
    assert [event.done for event in events] == list(range(1, 25))
    assert {event.total for event in events} == {24}
    assert all(event.seconds_left > 0 for event in events[:-1])
    assert events[-1].seconds_left == 0


@pytest.mark.parametrize("stop_after", [0, 1, 7, 23])
def test_stop_and_go_on_is_one_go(case: Case, model: TrainedModel, stop_after: int) -> None:
    engine = FakeEngine(position_dependent)
    run = Run(case, model, PLAIN, engine)
    asked = count()
    first = list(run.compute(control=StopWhen(lambda: next(asked) == stop_after)))
    assert len(first) == len(engine.calls) == stop_after
    assert not run.complete
    second = list(run.compute())
    assert [event.done for event in first + second] == list(range(1, 25))
    assert np.array_equal(run.labels(), straight(case, model))


def test_stop_comes_within_one_pass_and_drops_the_tile(case: Case, model: TrainedModel) -> None:
    engine = FakeEngine(position_dependent)
    run = Run(case, model, Settings.exact(), engine)
    asked = count()
    events = list(run.compute(control=StopWhen(lambda: next(asked) == 8 + 3)))
    assert len(engine.calls) == 8 + 3  # the first tile's eight passes, three of the second's
    assert [event.done for event in events] == [1]
    list(run.compute())
    whole = Run(case, model, Settings.exact(), FakeEngine(position_dependent))
    list(whole.compute())
    assert np.array_equal(run.labels(), whole.labels())


def test_leaving_the_iterator_keeps_what_is_done(case: Case, model: TrainedModel) -> None:
    engine = FakeEngine(position_dependent)
    run = Run(case, model, PLAIN, engine)
    for event in run.compute():
        if event.done == 5:
            break
    assert len(list(run.compute())) == 19
    assert np.array_equal(run.labels(), straight(case, model))


@pytest.mark.parametrize("seed", range(3))
def test_any_order_gives_the_same_labels(case: Case, model: TrainedModel, seed: int) -> None:
    engine = FakeEngine(position_dependent)
    run = Run(case, model, PLAIN, engine)
    order = [run.tiles[i] for i in np.random.default_rng(seed).permutation(len(run.tiles))]
    list(run.compute(order))
    for tile, (_, patch) in zip(order, engine.calls, strict=True):
        assert np.array_equal(patch, case.channels[:, *tile.box.slices])
    assert np.array_equal(run.labels(), straight(case, model))


def test_some_tiles_first_and_the_rest_later(case: Case, model: TrainedModel) -> None:
    run = Run(case, model, PLAIN, FakeEngine(position_dependent))
    events = list(run.compute(run.tiles[10:14]))
    assert [(event.done, event.total) for event in events] == [(1, 24), (2, 24), (3, 24), (4, 24)]
    assert not run.complete
    assert len(list(run.compute())) == 20
    assert np.array_equal(run.labels(), straight(case, model))


def test_a_tile_named_twice_is_computed_once(case: Case, model: TrainedModel) -> None:
    engine = FakeEngine(position_dependent)
    run = Run(case, model, PLAIN, engine)
    events = list(run.compute([run.tiles[3], run.tiles[3], run.tiles[2], run.tiles[3]]))
    assert len(events) == len(engine.calls) == 2
    assert events[-1].seconds_left == 0


def test_two_iterators_share_the_tiles(case: Case, model: TrainedModel) -> None:
    engine = FakeEngine(position_dependent)
    run = Run(case, model, PLAIN, engine)
    one, other = run.compute(), run.compute(run.tiles[::-1])
    events = [event for pair in zip(one, other, strict=False) for event in pair]
    events += [*one, *other]
    assert [event.done for event in events] == list(range(1, 25))
    assert len(engine.calls) == 24
    assert np.array_equal(run.labels(), straight(case, model))


def test_nothing_computed_is_background(case: Case, model: TrainedModel) -> None:
    run = Run(case, model, PLAIN, FakeEngine(position_dependent))
    assert not run.labels().any()
    last = run.tiles[-1]
    next(run.compute([last]))
    labels = run.labels()
    assert labels[last.box.slices].any()
    labels[last.box.slices] = 0
    assert not labels.any()


def test_draft_covers_and_is_carried_on(case: Case, model: TrainedModel) -> None:
    engine = FakeEngine(position_dependent)
    run = Run(case, model, Settings.draft(), engine)
    assert len(run.tiles) == 2 * 2 * 3
    assert [event.total for event in run.compute()] == [12] * 12
    assert run.complete
    ones = Run(case, model, Settings.draft(), FakeEngine(lambda patch, _: np.stack([0 * patch[0], 0 * patch[0] + 1,
                                                                                     0 * patch[0] - 1])))  # fmt: skip
    list(ones.compute())
    assert (ones.labels() == 1).all()

    rest = list(run.compute(run.grid.tiles()))
    assert [event.done for event in rest] == list(range(13, 25))
    assert {event.total for event in rest} == {24}
    assert run.complete
    assert np.array_equal(run.labels(), straight(case, model))


@pytest.mark.parametrize("failing_call", [1, 5, 24])
def test_engine_error_leaves_the_run_usable(case: Case, model: TrainedModel, failing_call: int) -> None:
    calls = count(1)

    def compute(patch: np.ndarray, fold: int) -> np.ndarray:
        if next(calls) == failing_call:
            raise EngineError("out of memory")
        return position_dependent(patch, fold)

    run = Run(case, model, PLAIN, FakeEngine(compute))
    with pytest.raises(EngineError, match="out of memory"):
        list(run.compute())
    assert not run.complete
    assert len(list(run.compute())) == 24 - failing_call + 1
    assert np.array_equal(run.labels(), straight(case, model))


def test_mirroring_only_where_settings_and_model_agree(case: Case, model: TrainedModel) -> None:
    def passes(settings: Settings) -> int:
        engine = FakeEngine(nearest_integer, folds=3)
        next(Run(case, model, settings, engine).compute())
        return len(engine.calls)

    assert passes(Settings.exact()) == 3 * 8
    assert passes(Settings.fast()) == 3


def test_small_image_is_padded_with_zeros(model: TrainedModel) -> None:
    case = Case(np.full((1, 5, 8, 3), 2, np.float32), (1.0, 1.0, 1.0))
    engine = FakeEngine(nearest_integer)
    run = Run(case, model, PLAIN, engine)
    list(run.compute())
    assert [patch.shape for _, patch in engine.calls] == [(1, 8, 8, 8)]
    patch = engine.calls[0][1][0]
    assert (patch[1:6, :, 2:5] == 2).all()  # three rows of padding along z, five along x: the odd one behind
    assert (patch == 2).sum() == 5 * 8 * 3
    assert (patch == 0).sum() == 8**3 - 5 * 8 * 3
    assert run.labels().shape == (5, 8, 3)
    assert (run.labels() == 2).all()


def test_provenance_is_plain_and_true(case: Case, model: TrainedModel) -> None:
    run = Run(case, model, Settings.exact(step=1.0), FakeEngine(nearest_integer, folds=2))
    list(run.compute(run.tiles[:3]))
    found = json.loads(json.dumps(run.result().provenance))
    (only,) = found["runs"]
    assert (only["engine"], only["engine_reason"]) == ("fake", "a test's")
    assert (found["tiles"], found["tiles_done"], found["passes"], only["passes_per_tile"]) == (12, 3, 48, 16)
    assert found["settings"]["step"] == 1.0
    assert found["image"]["shape"] == [11, 13, 17]
    assert only["model"]["weights_sha256"] == model.weights_sha256
    assert set(found["seconds"]) == {"prepare", "predict", "export"}
    assert found["versions"]["openvino"] == importlib.metadata.version("openvino")


def test_provenance_without_openvino(case: Case, model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_openvino(package: str) -> str:
        if package == "openvino":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(resources, "_version", without_openvino)
    versions = Run(case, model, PLAIN, FakeEngine(nearest_integer)).result().provenance["versions"]
    assert versions["openvino"] is None
    assert versions["torch"] == version("torch")


def test_engine_is_made_on_first_use_and_once(case: Case, model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def choose(*asked: object) -> FakeEngine:
        made.append(asked)
        return FakeEngine(nearest_integer)

    monkeypatch.setattr("napari_nnunet_cpu.predict.run_engine.choose_engine", choose)
    run = Run(case, model, PLAIN)
    assert not made
    list(run.compute(run.tiles[:1]))
    list(run.compute(run.tiles[1:2]))
    assert [asked[:2] for asked in made] == [(model, PLAIN)]
    assert "load" in run.record()["seconds"]


def test_the_agreement_is_recorded(case: Case, model: TrainedModel) -> None:
    engine = FakeEngine(nearest_integer)
    assert Run(case, model, PLAIN, engine).record()["agreement"] is None
    engine.agreement = Agreement("liver", 0.98, 0.99)
    record = Run(case, model, PLAIN, engine).record()
    assert record["agreement"] == {"worst": "liver", "dice": 0.98, "voxels": 0.99}
    json.dumps(record)


def test_result_can_be_taken_early_and_again(case: Case, model: TrainedModel) -> None:
    run = Run(case, model, PLAIN, FakeEngine(position_dependent))
    iterator = run.compute()
    event = next(iterator)
    assert isinstance(event, TileDone)
    early = run.result().labels
    list(iterator)
    late = run.result().labels
    assert early.shape == late.shape
    assert np.array_equal(late, straight(case, model))
    assert not np.shares_memory(early, late)


@pytest.mark.parametrize("start", [(1, 1, 1), (100, 0, 0)], ids=["between", "outside"])
def test_tiles_of_another_grid_are_refused(case: Case, model: TrainedModel, start: tuple[int, int, int]) -> None:
    run = Run(case, model, PLAIN, FakeEngine(position_dependent))
    foreign = Tile(0, start, run.tiles[0].size)
    with pytest.raises(SettingsError, match="not a tile of the grid"):
        list(run.compute([run.tiles[0], foreign]))
    list(run.compute())
    np.testing.assert_array_equal(run.labels(), straight(case, model))


def test_names_of_a_result_are_its_own(case: Case, model: TrainedModel) -> None:
    names = dict(model.labels.names)
    run = Run(case, model, PLAIN, FakeEngine(position_dependent))
    run.result().label_names[1] = "changed"
    assert model.labels.names == names
