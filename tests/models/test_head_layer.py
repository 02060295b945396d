"""The last layer, taken off the network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu.models.network.head_layer import HeadLayer


def layer(heads: int, features: int, seed: int, dimensions: int = 3) -> tuple[HeadLayer, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(heads, features, *[1] * dimensions)).astype(np.float32)
    bias = rng.normal(size=heads).astype(np.float32)
    return HeadLayer.of(weights, bias), weights.reshape(heads, features), bias


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_sums_of_logits_are_made_of_sums_of_features(heads: int, features: int, seed: int) -> None:
    """Of three tiles that overlap: each with its logits, or the features first."""
    made, weights, bias = layer(heads, features, seed)
    rng = np.random.default_rng(seed)
    tiles = rng.normal(size=(3, features, 4, 5))
    window = rng.uniform(0.01, 10, (3, 1, 4, 5)) * rng.integers(0, 2, (3, 1, 4, 5))
    logits = np.einsum("hf,tfyx->thyx", weights, tiles) + bias[:, None, None]
    expected = (logits * window).sum(axis=0)
    sums = np.concatenate([(tiles * window).sum(axis=0), window.sum(axis=0)]).astype(np.float32)
    found = list(made.apply(sums))
    assert (made.heads, made.features, len(found)) == (heads, features, heads)
    assert {head.dtype for head in found} == {np.dtype(np.float32)}
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("at_once", [1, 4, 5, 16, 99])
def test_parts_make_up_the_whole(at_once: int) -> None:
    made, *_ = layer(16, 3, 1)
    sums = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    parts = list(made.parts(at_once))
    assert all(part.heads <= at_once for part in parts)
    found = [head for part in parts for head in part.apply(sums)]
    np.testing.assert_allclose(found, list(made.apply(sums)), rtol=1e-5, atol=1e-6)
