from __future__ import annotations

import pytest
from random_model import RandomModel

from napari_nnunet_cpu import TrainedModel, load_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Patch 8, three labels, intensities as they are, mirrored along all axes where settings ask for it."""
    folder = RandomModel(patch=(8, 8, 8), normalization="NoNormalization", mirror_axes=(0, 1, 2))
    return load_model(folder.write(tmp_path_factory.mktemp("model")))
