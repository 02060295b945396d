from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product, starmap
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.export import Logits
from napari_nnunet_cpu.export.linear import LinearExport
from napari_nnunet_cpu.export.logits import LogitsOf
from napari_nnunet_cpu.export.spline_labels import SplineExport
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.models.network.head_layer import HeadLayer
from napari_nnunet_cpu.prepare.resample import Resampler

pytestmark = pytest.mark.slow

Triple = tuple[int, int, int]
HEADS = 6
LABELS = Labels({value: str(value) for value in range(HEADS)}, HEADS)
# Two regions paint the same value: that both corners show it does not mean that the middle does.
REGIONS = Labels({0: "background", 3: "a", 7: "b", 9: "c"}, HEADS, (3, 7, 3, 9, 7, 9))
LINEAR = Resampler(1, None, 0)
RESAMPLERS = [
    LINEAR,
    Resampler(0, None, 0),
    Resampler(1, 0, 0),
    Resampler(1, 0, 1),
    Resampler(1, 1, 0),
    Resampler(0, 2, 1),
    Resampler(1, None, 0, "resample_torch_fornnunet"),
    Resampler(1, 2, 0, "resample_torch_fornnunet"),
    Resampler(1, 1, 1, "resample_torch_fornnunet"),
]
sizes = st.tuples(*[st.integers(1, 9)] * 3)
seeds = st.integers(0, 2**32 - 1)
both = pytest.mark.parametrize("labels", [LABELS, REGIONS], ids=["labels", "regions"])


def ties(shape: Triple, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-2, 3, (HEADS, *shape)).astype(np.float32)


def noise(shape: Triple, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(HEADS, *shape)).astype(np.float32)


def smooth(shape: Triple, seed: int) -> np.ndarray:
    return gaussian_filter(noise(shape, seed), 2, axes=(1, 2, 3))


def boxes_of(logits: np.ndarray, weights: np.ndarray | None = None) -> LogitsOf:
    def in_box(box: Box) -> Logits:
        assert all(0 <= first < last <= length for (first, last), length in zip(box, logits.shape[1:], strict=True))
        return Logits(logits[:, *box.slices], None if weights is None else weights[box.slices])

    return in_box


def linear(labels: Labels, resampler: Resampler, source: Triple, shape: Triple) -> LinearExport:
    weights = resampler.axis_weights(source, shape)
    assert weights is not None
    return LinearExport(labels, weights, source, shape, threads=2)


def exported(labels: Labels, resampler: Resampler, logits: LogitsOf, source: Triple, shape: Triple) -> np.ndarray:
    return linear(labels, resampler, source, shape).labels(logits, Box.whole(shape))


def head_by_head(labels: Labels, resampler: Resampler, logits: LogitsOf, source: Triple, shape: Triple) -> np.ndarray:
    """Every head resampled as a whole, and the heads compared everywhere."""
    return SplineExport(labels, resampler, source, shape).labels(logits, Box.whole(shape))


@both
@pytest.mark.parametrize("kind", [ties, noise, smooth])
@given(sizes, sizes, seeds)
def test_labels_are_those_of_all_logits_resampled(
    kind: Callable[[Triple, int], np.ndarray], labels: Labels, source: Triple, shape: Triple, seed: int
) -> None:
    rows = boxes_of(kind(source, seed))
    found = exported(labels, LINEAR, rows, source, shape)
    assert np.array_equal(found, head_by_head(labels, LINEAR, rows, source, shape))
    assert found.dtype == np.uint8


@both
@pytest.mark.parametrize("kind", [ties, noise, smooth])
@given(st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 3), st.sampled_from(RESAMPLERS), st.data())
def test_ties_are_decided_alike_along_any_axis(
    kind: Callable[[Triple, int], np.ndarray], labels: Labels, shape: Triple, resampler: Resampler, data: st.DataObject
) -> None:
    """Doubled, halved and equal axes have shares that float32 knows exactly, so that nothing is left to rounding."""
    factors = data.draw(st.tuples(*[st.sampled_from([0.5, 1, 2])] * 3))
    source = tuple(max(int(length * factor), 1) for length, factor in zip(shape, factors, strict=True))
    logits = np.round(kind(source, data.draw(seeds)) * 64) / 64
    rows = boxes_of(logits)
    found = exported(labels, resampler, rows, source, shape)
    assert np.array_equal(found, head_by_head(labels, resampler, rows, source, shape))


@both
@pytest.mark.parametrize("resampler", RESAMPLERS, ids=str)
@given(sizes, sizes, seeds)
def test_a_separate_axis_gives_the_same_but_for_rounding(
    resampler: Resampler, labels: Labels, source: Triple, shape: Triple, seed: int
) -> None:
    logits = noise(source, seed)
    rows = boxes_of(logits)
    found = exported(labels, resampler, rows, source, shape)
    expected = head_by_head(labels, resampler, rows, source, shape)
    ordered = np.sort([resampler.apply(head, shape) for head in logits], axis=0)
    margin = np.abs(ordered).min(axis=0) if labels is REGIONS else ordered[-1] - ordered[-2]
    clear = margin > 1e-6
    assert np.array_equal(found[clear], expected[clear])


@both
@given(st.sampled_from(RESAMPLERS), sizes, sizes, seeds, st.lists(st.integers(1, 8), max_size=2))
def test_boxes_of_any_cut_make_up_the_whole(
    labels: Labels, resampler: Resampler, source: Triple, shape: Triple, seed: int, cuts: list[int]
) -> None:
    logits = noise(source, seed)
    export = linear(labels, resampler, source, shape)
    expected = export.labels(boxes_of(logits), Box.whole(shape))
    edges = [sorted({0, length, *(cut for cut in cuts if cut < length)}) for length in shape]
    for box in starmap(Box, product(*(pairwise(sides) for sides in edges))):
        needed = export.needed(box).slices
        alone = np.full_like(logits, np.nan)
        alone[:, *needed] = logits[:, *needed]  # nothing else is looked at
        assert np.array_equal(export.labels(boxes_of(alone), box), expected[box.slices])


@pytest.mark.parametrize(
    ("length", "size", "slab", "needed"),
    [
        (10, 10, (3, 5), (3, 5)),
        (20, 10, (0, 1), (0, 1)),  # before the first centre
        (20, 10, (1, 3), (0, 2)),
        (5, 10, (2, 3), (4, 6)),
        (9, 3, (3, 6), (0, 3)),  # 0.67, 1, 1.33
        (9, 3, (4, 5), (1, 2)),  # on a centre
        (1, 7, (0, 1), (3, 4)),
        (7, 1, (0, 7), (0, 1)),
    ],
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_only_the_voxels_around_a_box_are_needed(
    axis: int, length: int, size: int, slab: tuple[int, int], needed: tuple[int, int]
) -> None:
    def along(value: Any, others: Any) -> Any:
        return tuple(value if number == axis else others for number in range(3))

    export = linear(LABELS, LINEAR, along(size, 4), along(length, 4))
    assert export.needed(along(slab, (1, 3))) == along(needed, (1, 3))


@both
@given(st.sampled_from(RESAMPLERS), sizes, sizes, seeds)
def test_sums_are_weighed_before_they_are_blended(
    labels: Labels, resampler: Resampler, source: Triple, shape: Triple, seed: int
) -> None:
    logits = noise(source, seed)
    rng = np.random.default_rng(seed)
    weights = rng.choice(np.array([0, 2**-10, 1, 8], np.float32), source)  # powers of two divide without rounding
    means = np.where(weights > 0, logits, np.float32(0))
    expected = exported(labels, resampler, boxes_of(means), source, shape)
    assert np.array_equal(exported(labels, resampler, boxes_of(logits * weights, weights), source, shape), expected)


@both
@given(st.sampled_from(RESAMPLERS), sizes, sizes, seeds)
def test_heads_made_of_features_are_those_that_were_summed(
    labels: Labels, resampler: Resampler, source: Triple, shape: Triple, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(3, *source)).astype(np.float32)
    weights = rng.choice(np.array([0, 0.5, 3], np.float32), source)
    layer = HeadLayer(rng.normal(size=(HEADS, 4)).astype(np.float32))
    sums = np.concatenate([features * weights, weights[None]])
    logits = np.stack(list(layer.apply(sums)))

    def of_features(box: Box) -> Logits:
        return Logits(sums[:, *box.slices], weights[box.slices], layer=layer)

    means = list(boxes_of(logits, weights)(Box.whole(source)).means())
    np.testing.assert_allclose(list(of_features(Box.whole(source)).means()), means, rtol=1e-5, atol=1e-5)
    ordered = np.sort([resampler.apply(head, shape) for head in means], axis=0)
    margin = np.abs(ordered).min(axis=0) if labels is REGIONS else ordered[-1] - ordered[-2]
    clear = (margin > 1e-5) | (margin == 0)  # where no tile lies, all are 0 by either way
    found = exported(labels, resampler, of_features, source, shape)
    assert np.array_equal(found[clear], exported(labels, resampler, boxes_of(logits, weights), source, shape)[clear])


def test_a_heavier_voxel_is_no_louder() -> None:
    """Half-way between head 0 at 1 and head 1 at 0.8 it is head 0, though ten times as many tiles saw head 1."""
    means = np.array([[1, 0], [0, 0.8]], np.float32).reshape(2, 2, 1, 1)
    weights = np.array([1, 10], np.float32).reshape(2, 1, 1)
    two = Labels({0: "a", 1: "b"}, 2)
    found = exported(two, LINEAR, boxes_of(means * weights, weights), (2, 1, 1), (3, 1, 1))
    assert found.ravel().tolist() == [0, 0, 1]


def test_a_head_that_wins_nowhere_may_win_in_between() -> None:
    heads = np.array([[1, 0], [0, 1], [0.9, 0.9]], np.float32).reshape(3, 1, 1, 2)
    three = Labels({0: "a", 1: "b", 2: "c"}, 3)
    assert exported(three, LINEAR, boxes_of(heads), (1, 1, 2), (1, 1, 3)).ravel().tolist() == [0, 2, 1]


def test_two_regions_of_one_value_may_leave_a_gap() -> None:
    heads = np.array([[1, -2], [-2, 1]], np.float32).reshape(2, 1, 1, 2)
    regions = Labels({0: "background", 5: "a"}, 2, (5, 5))
    assert exported(regions, LINEAR, boxes_of(heads), (1, 1, 2), (1, 1, 3)).ravel().tolist() == [5, 0, 5]


@both
@pytest.mark.parametrize(("source", "shape"), [((2, 150, 180), (2, 290, 270)), ((3, 200, 2), (2, 3, 70000))])
def test_planes_larger_than_a_strip(labels: Labels, source: Triple, shape: Triple) -> None:
    rows = boxes_of(smooth(source, seed=5))
    found = exported(labels, LINEAR, rows, source, shape)
    assert np.array_equal(found, head_by_head(labels, LINEAR, rows, source, shape))
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize(
    ("heads", "source", "shape"),
    [
        (120, (500, 200, 200), (300, 400, 400)),
        (60, (200, 137, 137), (120, 256, 256)),
        (3, (1, 9000, 9000), (1, 90, 90)),
    ],
)
def test_slabs_need_few_rows_at_a_time(heads: int, source: Triple, shape: Triple) -> None:
    export = linear(Labels({0: "background"}, heads), LINEAR, source, shape)
    slabs = list(export.pieces(Box.whole(shape)))
    assert [row for slab in slabs for row in range(*slab[0])] == list(range(shape[0]))
    assert {slab[1:] for slab in slabs} == {Box.whole(shape)[1:]}
    row_bytes = 4 * heads * source[1] * source[2]
    for slab in slabs:
        first, last = export.needed(slab)[0]
        assert (last - first - 2) * row_bytes <= 2**28
    assert len(slabs) <= 1 + heads * np.prod(source, dtype=float) / 2**25


def test_an_error_in_a_thread_is_heard() -> None:
    export = linear(LABELS, LINEAR, (4, 4, 4), (8, 8, 8))
    with pytest.raises(ValueError, match="broadcast"):
        export.labels(boxes_of(noise((4, 4, 4), 0), np.ones((4, 4, 3), np.float32)), Box.whole((8, 8, 8)))


def test_no_more_threads_than_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    pool = ThreadPoolExecutor
    monkeypatch.setattr("napari_nnunet_cpu.export.workers.ThreadPoolExecutor", lambda n: asked.append(n) or pool(n))
    linear(LABELS, LINEAR, (4, 4, 4), (8, 8, 8)).labels(boxes_of(noise((4, 4, 4), 0)), Box.whole((8, 8, 8)))
    assert asked == [2]
