"""Which tiles come first: those that decide what is looked at, wherever that is and moves to."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from fake_engines import FakeEngine, position_dependent
from small_models import load_models
from steered import StopWhen

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel
from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.predict import Focus, RunControl
from napari_nnunet_cpu.predict.tiles.grid import Tile

pytestmark = pytest.mark.slow

PLAIN = Settings.exact(mirror=False, threads=1)
SHAPE = (22, 19, 25)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    return load_models(["3d", "turned"], tmp_path_factory)


def run_of(model: TrainedModel, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> tuple[Run, FakeEngine]:
    image = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype(np.float32)
    image[:, :2] = 0  # cropped away
    engine = FakeEngine(position_dependent)
    return Run(Case(image, spacing), model, PLAIN, engine, any_order=True), engine


def computed(run: Run, engine: FakeEngine) -> list[Tile]:
    """The tiles in the order in which the network saw them."""
    patches = {run._parts.patches.of(tile).tobytes(): tile for tile in run.tiles}
    assert len(patches) == len(run.tiles)
    return [patches[patch.tobytes()] for _, patch in engine.calls]


def slab(axis: int, voxel: int) -> Box:
    """A slice of the case, from end to end."""
    return Box(*((voxel, voxel + 1) if number == axis else (0, length) for number, length in enumerate(SHAPE)))


def deciding(run: Run, box: Box) -> set[Tile]:
    kept = run.geometry.cropped_box(box)
    return set() if kept is None else {tile for tile in run.tiles if run._output.finality.decides(kept, tile)}


@pytest.mark.parametrize("name", ["3d", "turned"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.6, 0.9, 1.0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_the_slice_on_screen_is_decided_first(
    axis: int, share: float, spacing: tuple[float, float, float], name: str, models: dict[str, TrainedModel]
) -> None:
    run, engine = run_of(models[name], spacing)
    voxel = int(share * SHAPE[axis])
    point = [length // 2 for length in SHAPE]
    point[axis] = voxel
    events = list(run.compute(control=RunControl(Focus((point[0], point[1], point[2]), axis))))
    order = computed(run, engine)
    first = deciding(run, slab(axis, max(voxel, 2) if axis == 0 else voxel))
    assert 0 < len(first) < len(run.tiles)
    assert set(order[: len(first)]) == first
    shown = np.zeros(SHAPE, bool)
    for event in events[: len(first)]:
        for box in event.final:
            shown[box.slices] = True
    assert shown[2:].any()
    assert np.take(shown, voxel, axis)[2 if axis else 0 :].all() or (axis == 0 and voxel < 2)
    # And then outwards: the tiles' distance from the slice never falls by more than there is between two of them.
    model_axis = run.geometry.order.axes.index(axis)
    middle = np.mean([tile.start[model_axis] for tile in first])
    distance = [abs(tile.start[model_axis] - middle) for tile in order[len(first) :]]
    steps = {b - a for a, b in pairwise(run.grid.starts[model_axis])}
    assert all(b - a > -max(steps) for a, b in pairwise(distance))


def test_seen_as_a_whole_what_is_near_comes_first(models: dict[str, TrainedModel]) -> None:
    run, engine = run_of(models["3d"])
    list(run.compute(control=RunControl(Focus((12, 9, 12)))))
    order = computed(run, engine)
    near = deciding(run, Box((12, 13), (9, 10), (12, 13)))
    assert set(order[: len(near)]) == near
    point = np.array([12 - 2, 9, 12])
    distances = [np.abs(np.array(tile.start) + 4 - point).max() for tile in order]
    assert distances[-1] == max(distances)


def test_the_order_follows_the_focus(models: dict[str, TrainedModel]) -> None:
    run, engine = run_of(models["3d"])
    control = RunControl(Focus((4, 9, 12), 0))
    iterator = run.compute(control=control)
    for _ in range(3):
        next(iterator)
    control.focus = Focus((20, 9, 12), 0)
    list(iterator)
    order = computed(run, engine)
    first, then = deciding(run, slab(0, 4)), deciding(run, slab(0, 20))
    assert set(order[:3]) <= first
    assert set(order[3 : 3 + len(then)]) == then
    assert sorted(tile.index for tile in order) == [tile.index for tile in run.tiles]  # each once


def test_labels_do_not_depend_on_it(models: dict[str, TrainedModel]) -> None:
    straight, _ = run_of(models["3d"])
    list(straight.compute())
    run, _ = run_of(models["3d"])
    rng = np.random.default_rng(0)
    seen = []
    control = RunControl()
    for event in run.compute(control=control):
        control.focus = Focus(tuple(rng.integers(0, SHAPE)), rng.choice([0, 1, 2, None]))
        seen += event.final
    assert np.array_equal(run.labels(), straight.labels())
    assert np.array_equal(run.final_labels, straight.labels())
    assert sum(np.prod([b - a for a, b in box]) for box in seen) == np.prod(run.geometry.cropped_shape)


def test_rows_are_gone_through_as_they_are(models: dict[str, TrainedModel]) -> None:
    image = np.random.default_rng(1).normal(size=(1, 64, 64, 64)).astype(np.float32)
    engine = FakeEngine(position_dependent)
    case = Case(image, (1.0, 1.0, 1.0))
    run = Run(case, models["3d"], PLAIN, engine, any_order=False)
    assert run.estimate.plan == "rows"
    control = StopWhen(lambda: len(engine.calls) == 5)
    control.focus = Focus((60, 30, 30), 0)
    list(run.compute(control=control))
    assert computed(run, engine)[0] == run.tiles[0]
