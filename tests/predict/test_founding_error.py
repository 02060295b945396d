"""What this project began with: several folds on the CPU, then an in-place update of what came out.

nnunetv2 2.4 raises "Inplace update to inference tensor outside InferenceMode is not allowed" there.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Case, Run, Settings, load_model, segment
from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.predict.passes.accumulate import Accumulator

pytestmark = pytest.mark.slow

THREE_FOLDS = RandomModel(patch=(8, 8, 8), folds=("0", "1", "2"), mirror_axes=(0, 1, 2))


@pytest.fixture(params=["torch", "openvino"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings.exact(device="cpu", engine=request.param)


def test_three_mirrored_folds_and_in_place_updates(settings: Settings, tmp_path: Path) -> None:
    model = load_model(THREE_FOLDS.write(tmp_path))
    case = Case(smooth_image((9, 10, 11)), (1.0, 1.0, 1.0))
    run = Run(case, model, settings)
    assert len(list(run.compute())) == len(run.tiles)

    labels = run.labels()
    expected = labels.copy()
    labels += 1
    torch.from_numpy(labels).add_(1)
    assert np.array_equal(labels, expected + 2)
    assert np.array_equal(run.labels(), expected)

    result = segment(case, model, settings)
    assert np.array_equal(result.labels, expected)
    result.labels[:] = 0
    torch.from_numpy(result.labels).mul_(2)
    assert np.array_equal(run.labels(), expected)


def test_logits_and_their_sums_take_in_place_updates(settings: Settings, tmp_path: Path) -> None:
    run = Run(Case(smooth_image((8, 8, 8)) + 900, (1.0, 1.0, 1.0)), load_model(THREE_FOLDS.write(tmp_path)), settings)
    patch = smooth_image((8, 8, 8))
    second = run.engine.forward(patch, 1).copy()  # the next call may overwrite them
    logits = run.engine.forward(patch, 0)
    before = logits.copy()
    logits += second
    logits /= 2
    torch.from_numpy(logits).sub_(1)
    np.testing.assert_allclose(logits, (before + second) / 2 - 1, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(run.engine.forward(patch, 1), second)

    accumulator = Accumulator(run.grid, 3)
    accumulator.add(run.grid.tiles()[0], before)
    mean = list(accumulator.logits(Box.whole((8, 8, 8))).means())[1]
    mean *= 2
    torch.from_numpy(mean).add_(1)
    np.testing.assert_allclose(
        mean, list(accumulator.logits(Box.whole((8, 8, 8))).means())[1] * 2 + 1, rtol=1e-6, atol=1e-6
    )
