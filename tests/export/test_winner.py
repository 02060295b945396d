import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu.export.winner import Winner, label_values
from napari_nnunet_cpu.models.labels import Labels

SHAPE = (3, 4)


def decided(labels: Labels, heads: np.ndarray) -> np.ndarray:
    winner = Winner(labels, SHAPE)
    for number, head in enumerate(heads):
        winner.show(number, head)
    return label_values(labels)[winner.code]


def few_values(heads: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-2, 3, (heads, *SHAPE)).astype(np.float32)


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_of_labels_the_first_of_the_largest(heads: int, seed: int) -> None:
    labels = Labels({value: str(value) for value in range(heads)}, heads)
    logits = few_values(heads, seed)
    assert np.array_equal(decided(labels, logits), logits.argmax(axis=0))


@given(st.permutations([1, 1, 4, 300]), st.integers(0, 2**32 - 1))
def test_of_regions_the_last_positive(values: list[int], seed: int) -> None:
    labels = Labels({0: "background", 1: "a", 4: "b", 300: "c"}, 4, tuple(values))
    logits = few_values(4, seed)
    found = decided(labels, logits)
    for place in np.ndindex(*SHAPE):
        positive = [value for value, head in zip(values, logits, strict=True) if head[place] > 0]
        assert found[place] == (positive[-1] if positive else 0)
    assert found.dtype == np.uint16


def test_types_hold_every_head() -> None:
    names = {value: str(value) for value in range(300)}
    logits = np.zeros((300, *SHAPE), np.float32)
    logits[299] = 1
    assert (decided(Labels(names, 300), logits) == 299).all()
    regions = Labels({0: "background", 1: "a"}, 256, (1,) * 255 + (2,))
    assert (decided(regions, logits[44:] + 1) == 2).all()
