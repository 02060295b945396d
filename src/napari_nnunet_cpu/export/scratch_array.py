"""Large arrays of zeros, in memory or in a file that is gone with them."""

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
    """An array of zeros.

    On disk it is a temporary file without a name, mapped into memory. The system keeps as much of it in
    memory as there is room for; `release` makes that no part of this process's share.

    Parameters
    ----------
    shape : tuple of int
        Of the array, which is float32.
    on_disk : bool
        In a file, not in memory.

    Attributes
    ----------
    array : numpy.ndarray
        To be read and written.
    on_disk : bool
        Where it is.

    Raises
    ------
    MemoryBudgetError
        When the disk has no room for it.
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
        """Hand the memory of what is on disk back; nothing is lost, and touching it brings it in again."""
        if self._map is not None and hasattr(self._map, "madvise"):  # Windows trims by itself
            self._map.madvise(mmap.MADV_DONTNEED)


def _mapped(length: int) -> mmap.mmap:
    """A new file of zeros, mapped. It lies in the cache folder: /tmp is often memory, not disk."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < length:
            raise MemoryBudgetError(
                f"{folder} has room for {size(free)}, {size(length)} are needed for what does not fit into memory: "
                "free some, let NAPARI_NNUNET_CPU_CACHE name another folder, or allow more memory"
            )
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a hole that can't be filled later would end the process
                os.posix_fallocate(file.fileno(), 0, length)
            else:
                file.truncate(length)
            return mmap.mmap(file.fileno(), length)
    except OSError as error:
        raise MemoryBudgetError(
            f"{folder} can't take {size(length)} of what does not fit into memory ({error.strerror or error}): "
            "let NAPARI_NNUNET_CPU_CACHE name another folder, or allow more memory"
        ) from error
