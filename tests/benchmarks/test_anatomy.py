"""Random networks of the benchmarks: every class has its share, regions are compact, and a seed decides."""

import numpy as np
import pytest
import torch
from anatomy import anatomical_weights, shift_to
from made_cases import plain_unet
from scans import scan

from napari_nnunet_cpu import Settings, load_model, segment
from napari_nnunet_cpu.bench.agreement import boundary_share
from napari_nnunet_cpu.cases import Case

pytestmark = pytest.mark.slow

SHAPE, SPACING_MM = (48, 48, 48), (2.0, 2.0, 2.0)
MODELS = [
    plain_unet((32, 32, 32), SPACING_MM, (4, 8, 12, 16), 4),
    plain_unet((32, 32, 32), SPACING_MM, (6, 8, 12, 16), 12, seed=1),
    plain_unet((32, 32), SPACING_MM[1:], (4, 8, 12), 4),
]


def a_case(shape):
    return Case(scan(shape, SPACING_MM, 0)[None], SPACING_MM, name="scan")


@pytest.mark.parametrize("random_model", MODELS, ids=lambda model: f"{model.configuration} {model.heads}")
def test_every_class_has_its_share_in_compact_regions(random_model, tmp_path):
    case = a_case(SHAPE if len(random_model.patch) == 3 else (12, 48, 48))
    model = load_model(random_model.write(tmp_path, weights=lambda model, seed: anatomical_weights(model, case, seed)))
    labels = segment(case, model, Settings.exact(mirror=False)).labels
    shares = np.bincount(labels.ravel(), minlength=random_model.heads) / labels.size
    assert shares.min() > 1 / (4 * random_model.heads)
    assert shares[0] == shares.max() < 0.75
    boundary = boundary_share(labels, labels.shape)
    shuffled = np.random.default_rng(0).permutation(labels.ravel()).reshape(labels.shape)
    assert 0.02 < boundary < 0.6 < boundary_share(shuffled, labels.shape)


def test_a_seed_decides():
    small, case = plain_unet((8, 8, 8), SPACING_MM, (2, 4), 3), a_case((12, 12, 12))
    first, again, other = (anatomical_weights(small, case, seed) for seed in (0, 0, 7))
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "encoder.stages.0.0.convs.0.conv.weight"
    assert not torch.equal(first[name], other[name])


def test_images_are_the_same_again_and_of_the_scanner_kind():
    image = scan(SHAPE, SPACING_MM, 3)
    np.testing.assert_array_equal(image, scan(SHAPE, SPACING_MM, 3))
    assert (image != scan(SHAPE, SPACING_MM, 4)).any()
    # Neighbours are alike, but for the noise.
    assert np.diff(image.astype(float), axis=0).std() < 0.7 * image.std()


@pytest.mark.parametrize("heads", [2, 9, 40])
def test_shift_reaches_the_shares(heads):
    rng = np.random.default_rng(0)
    logits = rng.normal(rng.normal(0, 3, (heads, 1)), rng.uniform(0.5, 2, (heads, 1)), (heads, 20_000))
    shares = np.full(heads, 0.5 / (heads - 1))
    shares[0] = 0.5
    logits = logits.astype(np.float32)
    won = np.bincount((logits + shift_to(shares, logits)[:, None]).argmax(0), minlength=heads) / 20_000
    assert (np.abs(won / shares - 1) < 0.3).all()
