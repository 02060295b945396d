import shutil

import pytest
from random_model import RandomModel


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A valid model folder; not to be changed."""
    return RandomModel().write(tmp_path_factory.mktemp("original"))


@pytest.fixture
def folder(original, tmp_path):
    """A valid model folder of the test's own."""
    return shutil.copytree(original, tmp_path / original.parent.name / original.name)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where archives are unpacked."""
    path = tmp_path / "cache"
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(path))
    return path
