from pathlib import Path

import pytest
from random_model import RandomModel

from napari_nnunet_cpu import TrainedModel, load_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Two folds, patch 8, one channel, three heads, two stages: converted in no time."""
    architecture = {
        "n_stages": 2,
        "features_per_stage": [3, 5],
        "kernel_sizes": [[3, 3, 3]] * 2,
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
    }
    folder = RandomModel(patch=(8, 8, 8), folds=("0", "1"), architecture=architecture)
    return load_model(folder.write(tmp_path_factory.mktemp("model")))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    path = tmp_path / "cache"
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(path))
    return path


@pytest.fixture
def no_torch_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test that builds a network of torch's."""

    def network(_model: TrainedModel, fold: int) -> None:
        raise AssertionError(f"the torch network of fold {fold} was built")

    monkeypatch.setattr(TrainedModel, "network", network)
