"""Merging into a layer of the user's: the rule's voxels are written, the user's stay, one undo takes it back."""

from __future__ import annotations

import threading

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_nnunet_cpu.errors import CaseError, SettingsError
from napari_nnunet_cpu.viewer.image.layers import LayerImage, image_from_layers
from napari_nnunet_cpu.viewer.results import merge as merge_module
from napari_nnunet_cpu.viewer.results.layer_result import LayerResult
from napari_nnunet_cpu.viewer.results.merge import MergeRule, MergeTarget

SHAPE = (6, 9, 8)
NAMES = {0: "background", 1: "liver", 2: "spleen", 3: "kidney"}
EMPTY_ALONE = MergeRule()
RULES = [MergeRule(values, overwrite) for values in (None, (2,), (0, 3)) for overwrite in (False, True)]


def found(labels: np.ndarray, box=None) -> LayerResult:
    return LayerResult(labels, NAMES, {"settings": {"box": box}})


def random_labels(seed: int, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, shape, dtype=np.uint8)


class Desk:
    """A viewer with an image, and a Labels layer on it in which something is painted."""

    def __init__(self, dtype=np.uint8, shape=SHAPE, axes=None, **transforms) -> None:
        self.viewer = ViewerModel()
        source = self.viewer.add_image(np.zeros(shape, np.float32), name="scan", **transforms)
        self.image: LayerImage = image_from_layers([source], axes=axes)
        self.layer = self.labels(np.where(random_labels(1, shape) > 1, random_labels(2, shape), 0).astype(dtype))

    def labels(self, data, **kwargs) -> Labels:
        placement = self.image.placement.labels_transforms(self.image.times)
        return self.viewer.add_layer(Labels(data, name="mine", **placement | kwargs))

    def target(self, rule: MergeRule = EMPTY_ALONE) -> MergeTarget:
        return MergeTarget(self.viewer, self.layer, self.image, rule)


def allowed(begun: np.ndarray, now: np.ndarray, labels: np.ndarray, rule: MergeRule) -> np.ndarray:
    """Where a rule says that something is written, voxel by voxel."""
    written = np.zeros(now.shape, dtype=bool)
    for voxel in np.ndindex(*now.shape):
        before, held, new = int(begun[voxel]), int(now[voxel]), int(labels[voxel])
        wanted = new != 0 if rule.values is None else new in rule.values
        written[voxel] = wanted and before == held and held != new and (rule.overwrite or held == 0)
    return written


@pytest.fixture(autouse=True)
def thin_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """More slabs than one, of more planes than one."""
    monkeypatch.setattr(merge_module, "_SLAB_VOXELS", 2 * SHAPE[1] * SHAPE[2])


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_writes_its_voxels_alone(rule: MergeRule) -> None:
    desk, labels = Desk(), random_labels(3)
    begun = desk.layer.data.copy()
    target = desk.target(rule)
    desk.layer.data[0] = 7
    now = desk.layer.data.copy()
    expected = allowed(begun, now, labels, rule)
    assert target.merge(found(labels)) == expected.sum()
    np.testing.assert_array_equal(desk.layer.data, np.where(expected, labels, now))
    assert expected.any()


@pytest.mark.parametrize("rule", RULES)
def test_what_is_painted_before_the_thread_packs_is_not_what_was_there(rule: MergeRule, monkeypatch) -> None:
    painted, pack = threading.Event(), merge_module._pack

    def late(*arguments):
        assert painted.wait(20)
        return pack(*arguments)

    monkeypatch.setattr(merge_module, "_pack", late)
    desk, labels = Desk(), random_labels(3)
    begun = desk.layer.data.copy()
    target = desk.target(rule)
    desk.layer.data[::2] = 7
    now = desk.layer.data.copy()
    painted.set()
    expected = allowed(begun, now, labels, rule)
    assert target.merge(found(labels)) == expected.sum()
    np.testing.assert_array_equal(desk.layer.data, np.where(expected, labels, now))


EDITS = ("paint", "paint", "erase", "fill", "undo", "redo", "direct", "cells")


def edit(layers: list[Labels], rng: np.random.Generator) -> None:
    """Do one random thing to each of the layers."""
    kind = rng.choice(EDITS)
    place = tuple(int(rng.integers(length)) for length in SHAPE)
    value, size, overlap = int(rng.integers(1, 6)), int(rng.integers(1, 5)), bool(rng.integers(2))
    dimensions = int(rng.integers(2, 4))
    cells = tuple(rng.integers(0, length, 9) for length in SHAPE)
    for layer in layers:
        layer.n_edit_dimensions, layer.brush_size, layer.preserve_labels = dimensions, size, overlap
        if kind in ("paint", "erase"):
            layer.paint(place, 0 if kind == "erase" else value)
        elif kind == "fill":
            layer.fill(place, value)
        elif kind in ("undo", "redo"):
            getattr(layer, kind)()
        elif kind == "direct":
            layer.data[place[0], : place[1], place[2] :] = value - 1
        else:
            layer.data_setitem(cells, value - 1)


def step_back(layers: list[Labels], expected: np.ndarray | None = None) -> None:
    """Undo once in each of the layers."""
    for layer in layers:
        layer.undo()
    np.testing.assert_array_equal(layers[0].data, layers[-1].data if expected is None else expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("ndisplay", [2, 3])
def test_edits_before_and_during_the_run_are_kept_and_can_be_undone(rule: MergeRule, ndisplay: int) -> None:
    desk = Desk()
    desk.viewer.dims.ndisplay = ndisplay
    for seed in range(18):  # 216 sequences in all
        rng = np.random.default_rng((seed, ndisplay, RULES.index(rule)))
        labels = rng.integers(0, 4, SHAPE, dtype=np.uint8)
        layer = desk.layer = desk.labels(rng.integers(0, 2, SHAPE, np.uint8) * rng.integers(0, 4, SHAPE, np.uint8))
        twin = Labels(layer.data.copy())  # the same edits, without a merge
        for _ in range(rng.integers(0, 8)):
            edit([layer, twin], rng)
        target, begun = desk.target(rule), layer.data.copy()
        for _ in range(rng.integers(0, 10)):
            edit([layer, twin], rng)
        now = layer.data.copy()
        expected = allowed(begun, now, labels, rule)

        assert target.merge(found(labels)) == expected.sum()
        merged = layer.data.copy()
        np.testing.assert_array_equal(merged, np.where(expected, labels, now))
        np.testing.assert_array_equal(merged[begun != now], now[begun != now])
        if expected.any():
            step_back([layer], now)
            layer.redo()
            np.testing.assert_array_equal(layer.data, merged)
            step_back([layer], now)
        for _ in range(18):  # more than there were
            step_back([layer, twin])
        desk.viewer.layers.remove(layer)


def test_what_the_user_erased_stays_empty() -> None:
    desk = Desk()
    desk.layer.data[:] = 1
    target = desk.target()
    desk.layer.data[2:4] = 0
    assert target.merge(found(np.full(SHAPE, 3, np.uint8))) == 0
    assert not desk.layer.data[2:4].any()


def test_nothing_to_write_leaves_the_history_alone() -> None:
    desk = Desk()
    before = desk.layer.data.copy()
    desk.layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 9)
    painted = desk.layer.data.copy()
    desk.layer.undo()
    assert desk.target().merge(found(np.zeros(SHAPE, np.uint8))) == 0
    np.testing.assert_array_equal(desk.layer.data, before)
    desk.layer.redo()
    np.testing.assert_array_equal(desk.layer.data, painted)


def test_one_voxel() -> None:
    desk, labels = Desk(), np.zeros(SHAPE, np.uint8)
    desk.layer.data[:] = 0
    labels[3, 4, 5] = 2
    assert desk.target().merge(found(labels)) == 1
    np.testing.assert_array_equal(desk.layer.data, labels)


def test_a_stroke_that_is_being_drawn_is_a_step_of_its_own() -> None:
    desk = Desk()
    desk.layer.data[:] = 0
    target = desk.target()
    with desk.layer.block_history():  # as while the mouse button is down
        desk.layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 7)
        half = desk.layer.data.copy()
        target.merge(found(np.full(SHAPE, 3, np.uint8)))
        merged = desk.layer.data.copy()
        desk.layer.data_setitem((np.array([1]), np.array([0]), np.array([0])), 7)
    states = [merged, half, np.zeros(SHAPE)]
    for state in states:
        desk.layer.undo()
        np.testing.assert_array_equal(desk.layer.data, state)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.uint32, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("overwrite", [False, True])
def test_layers_of_every_whole_number(dtype, overwrite: bool) -> None:
    desk, labels = Desk(dtype), random_labels(3)
    desk.layer.data[0] = np.iinfo(desk.layer.data.dtype).max
    desk.layer.data[1] = max(np.iinfo(desk.layer.data.dtype).min, -5)
    begun = desk.layer.data.copy()
    target = desk.target(MergeRule(overwrite=overwrite))
    desk.layer.data[:, 2] = 9
    now = desk.layer.data.copy()
    expected = allowed(begun, now, labels, MergeRule(overwrite=overwrite))
    assert target.merge(found(labels)) == expected.sum() > 0
    assert desk.layer.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(desk.layer.data, np.where(expected, labels, now))
    desk.layer.undo()
    np.testing.assert_array_equal(desk.layer.data, now)


def test_a_value_that_the_layer_can_not_hold_is_refused_before_anything_is_written() -> None:
    desk, labels = Desk(), random_labels(3).astype(np.uint16)
    labels[-1, -1, -1] = 256
    now = desk.layer.data.copy()
    with pytest.raises(CaseError, match="mine is uint8 and holds labels up to 255, not 256; use a new layer"):
        desk.target().merge(found(labels))
    np.testing.assert_array_equal(desk.layer.data, now)
    assert desk.target(MergeRule((1,))).merge(found(labels)) > 0
    assert desk.target().merge(found(labels, ((0, 5), (0, 9), (0, 8)))) > 0
    with pytest.raises(CaseError, match="up to 255, not 300"):
        desk.target(MergeRule((1, 300)))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("dtype", [np.uint16, np.int8, np.int64])
@pytest.mark.parametrize("visible", [True, False])
def test_a_layer_that_got_another_dtype_or_array_meanwhile(overwrite: bool, dtype, visible: bool) -> None:
    desk, labels = Desk(), random_labels(3).astype(np.uint16)
    labels[labels == 3] = min(300, np.iinfo(dtype).max)
    begun = desk.layer.data.copy()
    target = desk.target(MergeRule(overwrite=overwrite))
    desk.layer.visible = visible
    desk.layer.data = np.zeros((2, 3, 2), np.uint8)
    replaced = begun.astype(dtype)
    replaced[3] = 5
    desk.layer.data = replaced.copy()
    expected = allowed(begun, replaced, labels, MergeRule(overwrite=overwrite))
    assert target.merge(found(labels)) == expected.sum()
    np.testing.assert_array_equal(desk.layer.data, np.where(expected, labels, replaced))
    desk.layer.visible = True
    np.testing.assert_array_equal(desk.layer._slice.image.raw, desk.layer.data[desk.viewer.dims.current_step[0]])
    desk.layer.undo()
    np.testing.assert_array_equal(desk.layer.data, replaced)


def removed(desk: Desk) -> None:
    desk.viewer.layers.remove(desk.layer)


def moved(desk: Desk) -> None:
    desk.layer.translate = (0, 0, 1)


def locked(desk: Desk) -> None:
    desk.layer.editable = False


def set_data(data) -> object:
    def change(desk: Desk) -> None:
        desk.layer.data = data

    return change


def read_only(desk: Desk) -> None:
    data = desk.layer.data.copy()
    data.flags.writeable = False
    desk.layer.data = data


REFUSED = [
    pytest.param(removed, "mine is not in the viewer any more", id="removed"),
    pytest.param(moved, "mine lies elsewhere than the labels of scan", id="moved"),
    pytest.param(locked, "mine can't be edited", id="locked"),
    pytest.param(read_only, "mine can't be edited", id="read-only"),
    pytest.param(set_data(np.zeros((6, 9, 7), int)), r"shape \(6, 9, 7\), labels of scan \(6, 9, 8\)", id="shape"),
    pytest.param(set_data(np.zeros((9, 8), int)), r"shape \(9, 8\)", id="axes"),
    pytest.param(set_data(np.zeros(SHAPE, ">u2")), "mine holds >u2", id="byte order"),
    pytest.param(set_data(da.zeros(SHAPE, dtype=int)), "mine is a dask array", id="lazy"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_layers_that_do_not_fit_are_refused_at_the_start_and_at_the_end(change, message: str) -> None:
    desk = Desk()
    target = desk.target()
    change(desk)
    now = np.array(desk.layer.data)
    with pytest.raises(CaseError, match=message):
        target.merge(found(random_labels(3)))
    with pytest.raises(CaseError, match=message):
        desk.target()
    np.testing.assert_array_equal(np.asarray(desk.layer.data), now)


def test_multiscale_is_refused() -> None:
    desk = Desk()
    desk.layer = desk.labels([np.zeros(SHAPE, int), np.zeros((3, 4, 4), int)], multiscale=True)
    with pytest.raises(CaseError, match="is multiscale"):
        desk.target()


def test_a_layer_that_runs_the_other_way_is_refused() -> None:
    """As "new labels" made over an image whose reader turned it: of the same shape, left is right."""
    desk = Desk(affine=np.diag([1, 1, -1, 1]))
    desk.target()
    desk.layer = desk.labels(np.zeros(SHAPE, int), affine=np.eye(4), translate=(0, 0, -(SHAPE[2] - 1)))
    with pytest.raises(CaseError, match="lies elsewhere"):
        desk.target()


def test_renaming_and_reordering_do_not_matter() -> None:
    desk, labels = Desk(), random_labels(3)
    desk.layer.data[:] = 0
    target = desk.target()
    desk.layer.name = "organs"
    desk.viewer.layers.reverse()
    desk.viewer.dims.order = (2, 0, 1)
    assert target.merge(found(labels)) == (labels > 0).sum()
    np.testing.assert_array_equal(desk.layer.data, labels)


@pytest.mark.parametrize("axes", ["ZYX", "-ZY-X", "XZY", "Y-XZ"])
def test_nothing_is_written_around_the_box_of_the_run(axes: str) -> None:
    desk, box = Desk(axes=axes), ((1, 4), (2, 5), (3, 6))
    labels = np.ones(SHAPE, np.uint8)
    in_file = np.zeros(desk.image.outline().channels.shape[1:], np.uint8)
    in_file[1:4, 2:5, 3:6] = 1
    inside = desk.image.to_layer(in_file) == 1
    begun = desk.layer.data.copy()
    assert desk.target(MergeRule(overwrite=True)).merge(found(labels, box)) == (inside & (begun != 1)).sum()
    np.testing.assert_array_equal(desk.layer.data, np.where(inside, 1, begun))
    assert inside.sum() == 27


def test_background_erases_in_the_box_alone() -> None:
    desk = Desk()
    desk.layer.data[:] = 2
    rule = MergeRule((0,), overwrite=True)
    assert desk.target(rule).merge(found(np.zeros(SHAPE, np.uint8), ((1, 4), (2, 5), (3, 6)))) == 27
    assert not desk.layer.data[1:4, 2:5, 3:6].any()


def test_a_plane() -> None:
    desk, labels = Desk(shape=(9, 8)), random_labels(3, (9, 8))
    begun = desk.layer.data.copy()
    expected = allowed(begun, begun, labels, EMPTY_ALONE)
    assert desk.target().merge(found(labels)) == expected.sum() > 0
    np.testing.assert_array_equal(desk.layer.data, np.where(expected, labels, begun))


@pytest.mark.parametrize("axes", ["TZYX", "ZTYX", "TCZYX"])
def test_one_time_point_into_the_series(axes: str) -> None:
    lengths = {"T": 3, "C": 2, "Z": 4, "Y": 6, "X": 5}
    desk = Desk(shape=tuple(lengths[letter] for letter in axes), axes=", ".join(axes), scale=[2] * len(axes))
    placement = desk.image.placement
    series = placement.labels_shape(desk.image.times)
    desk.layer = desk.labels(np.zeros(series, np.uint8))
    desk.image = desk.image.at(1)
    labels = random_labels(3, placement.labels_shape((1,)))
    assert desk.target().merge(found(labels, ((0, 4), (1, 6), (0, 5)))) > 0
    expected = np.zeros((3, 4, 6, 5), np.uint8)
    expected[1] = labels.reshape(4, 6, 5)
    expected[1, :, 0] = 0
    for number in range(3):
        np.testing.assert_array_equal(desk.layer.data[placement.index(number)], expected[number])
    desk.layer.undo()
    assert not desk.layer.data.any()


def test_all_time_points() -> None:
    desk = Desk(shape=(3, 4, 6, 5), axes="T, Z, Y, X")
    desk.layer.data[:] = 0
    labels = random_labels(3, (3, 4, 6, 5))
    assert desk.target().merge(found(labels)) == (labels > 0).sum()
    np.testing.assert_array_equal(desk.layer.data, labels)


def test_the_labels_of_another_time_point_are_refused() -> None:
    desk = Desk(shape=(3, 4, 6, 5), axes="T, Z, Y, X")
    desk.image = desk.image.at(0)
    desk.layer = desk.labels(np.zeros((1, 4, 6, 5), np.uint8))
    desk.target()
    desk.image = desk.image.at(2)
    with pytest.raises(CaseError, match="lies elsewhere"):
        desk.target()


@pytest.mark.parametrize("after", [0, 1])
def test_what_fails_half_way_is_taken_back(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    desk = Desk()
    desk.layer.data[:] = 0
    desk.layer.paint((2, 4, 4), 7)
    painted, target = desk.layer.data.copy(), desk.target()
    write, calls = desk.layer.data_setitem, []

    def fail(*args, **kwargs) -> None:
        if len(calls) == after:
            raise MemoryError("no more")
        calls.append(args)
        write(*args, **kwargs)

    monkeypatch.setattr(desk.layer, "data_setitem", fail, raising=False)
    with pytest.raises(CaseError, match="labels can't be merged into mine: no more; use a new layer"):
        target.merge(found(random_labels(3)))
    monkeypatch.undo()
    assert len(calls) == after
    np.testing.assert_array_equal(desk.layer.data, painted)
    desk.layer.undo()
    assert not desk.layer.data.any()


@pytest.mark.parametrize("values", [(), (-1, 2)])
def test_rules_without_labels(values: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match="give at least one, none below 0"):
        MergeRule(values)
