import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu.bench.ratios import Ratio, middle, ratio

seconds = st.floats(0.01, 1e4)


def test_ratio_of_medians_and_of_pairs():
    found = ratio([10.0, 12.0, 11.0], [2.0, 4.0, 11.0])
    assert found == Ratio(medians=11 / 4, least=1.0, most=5.0)


def test_pairs_that_lack_a_side_are_left_out():
    assert ratio([10.0, None, 30.0], [5.0, 1.0, None]) == Ratio(2.0, 2.0, 2.0)
    assert ratio([None], [1.0]) is None
    assert ratio([3.0, 8.0], [-1.0, 2.0]) == Ratio(4.0, 4.0, 4.0)  # memory under the idle process's: no ratio
    assert ratio([], []) is None


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=9), st.floats(0.1, 10))
def test_a_ratio_scales_and_turns_round(pairs, factor):
    theirs, ours = map(list, zip(*pairs, strict=True))
    found, scaled, turned = ratio(theirs, ours), ratio([factor * t for t in theirs], ours), ratio(ours, theirs)
    assert found.least <= found.most
    assert scaled.medians == pytest.approx(factor * found.medians)
    assert turned.medians == pytest.approx(1 / found.medians)
    assert turned.least == pytest.approx(1 / found.most)


def test_middle():
    assert middle([None, 3.0, 1.0, None, 2.0]) == 2.0
    assert middle([None]) is None
