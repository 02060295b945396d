"""Large temporary arrays, in memory or in an unnamed file on disk."""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.errors import MemoryBudgetError
from napari_nnunet_cpu.events import size
from napari_nnunet_cpu.resources import cache_folder


class ScratchArray:
    """An array of zeros, float32, in memory or on disk.

    On disk it is a temporary file without a name, mapped into memory. The system caches as much of it as it has
    memory for; `release` removes it from the memory of this process. Raises `MemoryBudgetError` if the disk is full.
    """

    def __init__(self, shape: tuple[int, ...], on_disk: bool) -> None:
        self.on_disk = on_disk
        self._map = _mapped(4 * math.prod(shape)) if on_disk else None
        self.array: npt.NDArray[np.float32] = (
            np.zeros(shape, np.float32)
            if self._map is None
            else np.frombuffer(self._map, np.float32, math.prod(shape)).reshape(shape)
        )

    def release(self) -> None:
        """Free the memory of an array on disk. No data is lost, and the next access reads it again."""
        if self._map is not None and hasattr(self._map, "madvise"):  # Windows does this by itself
            self._map.madvise(mmap.MADV_DONTNEED)


def _mapped(length: int) -> mmap.mmap:
    """Map a new file of zeros. It lies in the cache folder, because /tmp is often in memory."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < length:
            raise MemoryBudgetError(
                f"{folder} has {size(free)} free, but needs {size(length)} for arrays that do not fit into memory: "
                "free some disk space, let NAPARI_NNUNET_CPU_CACHE name another folder, or allow more memory"
            )
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # because writing to a sparse file on a full disk ends the process
                os.posix_fallocate(file.fileno(), 0, length)
            else:
                file.truncate(length)
            return mmap.mmap(file.fileno(), length)
    except OSError as error:
        raise MemoryBudgetError(
            f"{folder} can't hold {size(length)} of arrays that do not fit into memory ({error.strerror or error}): "
            "let NAPARI_NNUNET_CPU_CACHE name another folder, or allow more memory"
        ) from error
