from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_model import RandomModel, smooth_image
from scipy.special import expit, softmax

from napari_nnunet_cpu import Case, Settings, TrainedModel, load_model, segment
from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.errors import OutputError
from napari_nnunet_cpu.export import (
    Logits,
    LogitsOf,
    ProbabilityExport,
    ScratchArray,
    export_box,
    label_export,
    labels_of_store,
)
from napari_nnunet_cpu.export.probabilities import labels_of_probabilities
from napari_nnunet_cpu.prepare import Geometry
from napari_nnunet_cpu.prepare.geometry import AxisOrder

TURNED = AxisOrder((2, 0, 1), (True, False, True))
REGIONS = {"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3}, "regions_class_order": [3, 1, 2]}
MM = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return load_model(RandomModel(patch=(8, 8, 8)).write(tmp_path_factory.mktemp("three")))


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return load_model(RandomModel(patch=(8, 8, 8), **REGIONS).write(tmp_path_factory.mktemp("regions")))


def exported(logits: LogitsOf, model: TrainedModel, geometry: Geometry) -> np.ndarray:
    """The probabilities."""
    return stored(logits, model, geometry)[0].array


def stored(
    logits: LogitsOf, model: TrainedModel, geometry: Geometry, on_disk: bool = False
) -> tuple[ScratchArray, np.ndarray]:
    """The probabilities, and the labels that come with them."""
    store = ScratchArray((model.labels.heads, *geometry.case_shape), on_disk)
    export = ProbabilityExport(model, geometry, store)
    labels = np.zeros(geometry.case_shape, model.labels.dtype)
    kept = geometry.crop(labels)
    export_box(export, logits, kept, Box.whole(kept.shape))
    return store, labels


def cropped() -> Geometry:
    box = Box((1, 4), (0, 3), (2, 6))
    return Geometry(TURNED, (5, 4, 6), box, MM, (3, 3, 4), MM)


@given(st.integers(0, 2**32 - 1))
def test_softmax_inside_and_background_outside(three: TrainedModel, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 40, (3, 3, 3, 4)).astype(np.float32)
    geometry = cropped()
    found = exported(lambda box: Logits(logits[:, *box.slices]), three, geometry)
    assert found.shape == (3, *geometry.case_shape) == (3, 4, 6, 5)
    assert found.dtype == np.float32
    np.testing.assert_allclose([geometry.crop(head) for head in found], softmax(logits, axis=0), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    outside = np.ones(geometry.case_shape, bool)
    geometry.crop(outside)[...] = False
    assert (found[0][outside] == 1).all()
    assert (found[1:, outside] == 0).all()


@given(st.integers(0, 2**32 - 1))
def test_sigmoid_of_regions_and_nothing_outside(regions: TrainedModel, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 40, (3, 3, 3, 4)).astype(np.float32)
    geometry = cropped()
    found = exported(lambda box: Logits(logits[:, *box.slices]), regions, geometry)
    np.testing.assert_allclose([geometry.crop(head) for head in found], expit(logits), atol=1e-6)
    assert np.count_nonzero(found) <= logits.size


def test_a_region_begins_above_one_half(regions: TrainedModel) -> None:
    """A logit of 0 and a probability of 0.5 are outside, by way of logits, of probabilities and of their mean."""
    small = np.float32(1e-3)
    logits = np.zeros((3, 3, 3, 4), np.float32)
    logits[0, 0], logits[1, 1], logits[1, 2] = small, small, -small  # regions paint 3, 1, 2
    expected = np.zeros((3, 3, 4), np.uint8)
    expected[0], expected[1] = 3, 1

    def part(box: Box) -> Logits:
        return Logits(logits[:, *box.slices])

    whole = Geometry(AxisOrder(), (3, 3, 4), Box.whole((3, 3, 4)), MM, (3, 3, 4), MM)
    labels = np.full((3, 3, 4), 9, np.uint8)
    export_box(label_export(regions, whole, threads=1), part, labels, Box.whole(labels.shape))
    assert np.array_equal(labels, expected)
    store, by_probabilities = stored(part, regions, whole)
    assert (store.array[:, 2] <= 0.5).all()
    assert np.array_equal(by_probabilities, expected)
    assert np.array_equal(labels_of_store(store, regions.labels), expected)
    assert not labels_of_probabilities(np.full((3, 1, 1, 1), 0.5, np.float32), regions.labels).any()


@pytest.mark.parametrize("kind", ["three", "regions"])
@given(seed=st.integers(0, 2**32 - 1))
def test_labels_are_the_same_from_logits_and_probabilities(
    kind: str, three: TrainedModel, regions: TrainedModel, seed: int
) -> None:
    model = three if kind == "three" else regions
    logits = np.random.default_rng(seed).normal(0, 3, (3, 3, 3, 4)).astype(np.float32)

    def part(box: Box) -> Logits:
        return Logits(logits[:, *box.slices])

    expected = np.zeros(cropped().case_shape, model.labels.dtype)
    export_box(label_export(model, cropped(), threads=1), part, cropped().crop(expected), Box.whole((3, 3, 4)))
    store, labels = stored(part, model, cropped())
    assert np.array_equal(labels, expected)
    found = labels_of_store(store, model.labels)
    assert np.array_equal(found, expected)
    assert found.dtype == expected.dtype


def test_probabilities_are_there_when_asked_for(three: TrainedModel) -> None:
    case = Case(smooth_image((12, 13, 14)), (1.2, 1.0, 0.9))
    without = segment(case, three, Settings.fast(threads=1))
    result = segment(case, three, Settings.fast(threads=1, probabilities=True))
    assert without.probabilities is None
    assert result.probabilities.shape == (3, *case.shape)
    assert np.array_equal(result.labels, without.labels)
    assert np.array_equal(result.probabilities.argmax(axis=0), result.labels)


def test_they_are_written_in_nnunets_layout(tmp_path: Path) -> None:
    model = load_model(RandomModel(patch=(8, 8, 8), reader="NibabelIOWithReorient").write(tmp_path))
    affine = np.diag([-0.9, 1.0, -1.2, 1.0])
    case = Case(smooth_image((12, 13, 14)), (1.2, 1.0, 0.9), affine)
    result = segment(case, model, Settings.fast(threads=1, probabilities=True))
    path = result.save_probabilities(tmp_path / "p.npz")
    with np.load(path) as written:
        assert written.files == ["probabilities"]
        found = written["probabilities"]
    assert np.array_equal(found, result.probabilities[:, ::-1, :, ::-1])
    assert found.dtype == np.float32


def test_what_can_not_be_written(three: TrainedModel, tmp_path: Path) -> None:
    result = segment(Case(smooth_image((9, 9, 9)), MM), three, Settings.draft(threads=1))
    with pytest.raises(OutputError, match=r"probabilities are written as \.npz"):
        result.save_probabilities(tmp_path / "p.npy")
    with pytest.raises(OutputError, match="no probabilities to write; run with Settings"):
        result.save_probabilities(tmp_path / "p.npz")
    assert not list(tmp_path.iterdir())
