import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_nnunet_cpu.bench.agreement import Agreement, agreement, boundary_share

labellings = arrays(np.uint8, (3, 4, 2), elements=st.integers(0, 3))


def test_agreement_by_hand():
    ours = np.array([[[0, 1, 1, 1, 2, 2]]], dtype=np.uint8)
    theirs = np.array([[[0, 1, 1, 2, 2, 0]]], dtype=np.uint16)
    found = agreement(ours, theirs)
    # label 1: 2 * 2 / (3 + 2); label 2: 2 * 1 / (2 + 2)
    assert found == Agreement(equal=4 / 6, worst_dice=0.5, worst_label=2)


def test_a_label_that_one_side_lacks_is_the_worst():
    found = agreement(np.array([[[0, 1, 5]]]), np.array([[[0, 1, 0]]]))
    assert found == Agreement(equal=2 / 3, worst_dice=0.0, worst_label=5)


def test_background_alone():
    nothing = np.zeros((2, 2, 2), dtype=np.uint8)
    assert agreement(nothing, nothing) == Agreement(1.0, None, None)


@given(labellings, labellings)
def test_agreement_is_symmetric_and_bounded(ours, theirs):
    found = agreement(ours, theirs)
    assert found == agreement(theirs, ours)
    assert 0 <= found.equal <= 1
    assert agreement(ours, ours).worst_dice in (None, 1.0)


def test_boundary_by_hand():
    labels = np.zeros((4, 5, 6), dtype=np.uint8)
    assert boundary_share(labels, labels.shape) == 0.0
    labels[1, 2, 3] = 1  # itself and six neighbours
    assert boundary_share(labels, labels.shape) == pytest.approx(7 / 120)
    labels[:2] = 0
    labels[2:] = 3
    assert boundary_share(labels, labels.shape) == 0.5


def test_boundary_on_another_grid():
    halves = np.repeat([0, 1], 8)[:, None, None] * np.ones((1, 4, 4), dtype=int)
    assert boundary_share(halves, (16, 4, 4)) == 2 / 16
    assert boundary_share(halves, (4, 8, 2)) == 2 / 4
