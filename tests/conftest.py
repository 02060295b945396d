"""Makes the helpers of this folder importable from all tests, and these the same on every machine."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("project", deadline=None, derandomize=True, database=None)
settings.load_profile("project")


def pytest_collection_finish() -> None:
    """What the libraries have loaded stays to the end: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache is left alone; a network is converted once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_int8() -> Iterator[None]:
    """The presets are in float32 on every computer, unless a test wants int8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_nnunet_cpu.engines.int8.int8.int8_is_fast", lambda: False)
        yield
