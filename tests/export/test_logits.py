import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu.export import Logits


def summed(seed: int) -> Logits:
    """Two heads; every third voxel lies in no tile."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.001, 50, (3, 4, 5)).astype(np.float32)
    weights.reshape(-1)[::3] = 0
    sums = rng.normal(size=(2, 3, 4, 5)).astype(np.float32) * weights
    for array in (sums, weights):
        array.flags.writeable = False
    return Logits(sums, weights)


@given(st.integers(0, 2**32 - 1))
def test_the_mean_is_0_where_no_tile_lies(seed: int) -> None:
    logits = summed(seed)
    for head in range(2):
        mean = list(logits.means())[head]
        assert mean.dtype == np.float32
        assert not mean[logits.weights == 0].any()
        np.testing.assert_allclose(mean * logits.weights, logits.sums[head], rtol=1e-6)


def test_sums_without_weights_are_the_mean_and_stay_theirs() -> None:
    sums = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
    mean = list(Logits(sums).means())[1]
    assert np.array_equal(mean, sums[1])
    mean[...] = 0
    assert sums[1].all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 2), st.floats(0, 1, width=32))
def test_factors_give_a_share_of_the_mean(seed: int, row: int, share: float) -> None:
    logits = summed(seed)
    part = slice(1, 3)
    factors = logits.factors(row, part, np.float32(share))
    np.testing.assert_allclose(
        factors * logits.sums[0, row, part], list(logits.means())[0][row, part] * share, atol=1e-6
    )
    assert Logits(logits.sums).factors(row, part, np.float32(share)) == np.float32(share)
