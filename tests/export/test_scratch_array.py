import mmap
from pathlib import Path

import numpy as np
import pytest

from napari_nnunet_cpu.errors import MemoryBudgetError
from napari_nnunet_cpu.export import ScratchArray


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("on_disk", [False, True])
def test_it_holds_what_is_written_whatever_is_released(on_disk: bool) -> None:
    store = ScratchArray((3, 50, 70), on_disk)
    assert (store.array.dtype, store.on_disk) == (np.float32, on_disk)
    assert not store.array.any()
    values = np.random.default_rng(0).normal(size=(3, 50, 70)).astype(np.float32)
    store.array[1:] = values[1:]
    store.release()
    store.array[0] = values[0]
    store.release()
    assert np.array_equal(store.array, values)


def test_its_file_has_no_name(cache: Path) -> None:
    store = ScratchArray((4, 4), on_disk=True)
    assert not list(cache.iterdir())
    array = store.array
    del store
    array[:] = 1  # lives as long as it is looked at
    assert array.sum() == 16


@pytest.mark.skipif(not hasattr(mmap.mmap, "madvise"), reason="this system trims memory by itself")
@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="this system does not tell what is in memory")
def test_what_is_released_is_out_of_memory() -> None:
    store = ScratchArray((64, 2**16), on_disk=True)
    store.array[:] = 1
    start = f"{store.array.ctypes.data:x}-"

    def resident() -> int:
        lines = iter(Path("/proc/self/smaps").read_text().splitlines())
        next(line for line in lines if line.startswith(start))
        return int(next(line for line in lines if line.startswith("Rss:")).split()[1]) * 1024

    assert resident() == store.array.nbytes
    store.release()
    assert resident() == 0
    assert (store.array == 1).all()


def test_a_full_disk_is_found_before_it_is_written_to(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2 * 10**9})())
    with pytest.raises(MemoryBudgetError, match=r"cache has 2.0 GB free, but needs 4.0 GB .*: free some disk space"):
        ScratchArray((10**9,), on_disk=True)
    assert not list(cache.iterdir())


def test_a_folder_that_takes_no_file(cache: Path) -> None:
    cache.write_bytes(b"")
    with pytest.raises(
        MemoryBudgetError, match=r"cache can't hold 1 MB .* \(File exists\): let NAPARI_NNUNET_CPU_CACHE"
    ):
        ScratchArray((10,), on_disk=True)
