"""Content compressed by gzip or zlib, read to its end so that every checksum is compared.

nibabel stops at the last voxel, before the checksum. If indexed_gzip is installed, nibabel prefers it,
although it ignores checksums.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from napari_nnunet_cpu.errors import CaseError

GZIP = zlib.MAX_WBITS | 16
GZIP_OR_ZLIB = zlib.MAX_WBITS | 32

_MAGIC = b"\x1f\x8b"  # of gzip
_CHUNK = 1 << 16  # bytes read at a time; deflate can expand them a thousandfold
_MAX_PART = 1 << 20  # bytes decompressed at a time


class Decompressed(io.RawIOBase):
    """The decompressed content of a file, from its current position on.

    Consecutive gzip members are read as one. Bytes after the last member are ignored, as in zlib. `length` is
    the number of compressed bytes; without it, they reach to the end of the file. Every method that reads
    raises `CaseError` if the content is damaged or cut off.
    """

    def __init__(self, file: IO[bytes], path: Path, wbits: int = GZIP, length: int | None = None) -> None:
        super().__init__()
        self._file, self._path, self._wbits, self._length = file, path, wbits, length
        self._start = file.tell()
        self._restart()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True, although seeking backwards decompresses from the start again."""
        return True

    def tell(self) -> int:
        """The position in the decompressed content."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position in the decompressed content, counted from its start."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("the end of compressed content is unknown until it is read")
        if offset < self._place:
            self._restart()
        while self._place < offset and self._part(offset - self._place):
            pass
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next content; return the number of bytes."""
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view) and (part := self._part(len(view) - filled)):
            view[filled : filled + len(part)] = part
            filled += len(part)
        return filled

    def finish(self) -> int:
        """Decompress the rest, compare the checksums and return the length of the content."""
        while self._part(_MAX_PART):
            pass
        return self._place

    def _restart(self) -> None:
        self._file.seek(self._start)
        self._left = self._length
        self._waiting = b""  # compressed
        self._member = zlib.decompressobj(self._wbits)
        self._place = 0

    def _part(self, most: int) -> bytes:
        """The next bytes of the content, at most `most`; empty after the end, once the checksums are compared."""
        part = b""
        try:
            while not part and (not self._member.eof or self._next_member()):
                self._waiting = self._waiting or self._chunk()
                if not self._waiting:
                    raise CaseError(f"{self._path} is cut off: its compressed part has no end; copy the file again")
                part = self._member.decompress(self._waiting, min(most, _MAX_PART))
                self._waiting = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        except zlib.error as error:
            raise CaseError(
                f"{self._path} is damaged: its compressed part can't be decompressed or does not fit its checksum "
                f"({error}); copy the file again"
            ) from error
        self._place += len(part)
        return part

    def _next_member(self) -> bool:
        """Begin the next gzip member, if there is one."""
        if len(self._waiting) < len(_MAGIC):
            self._waiting += self._chunk()
        if self._wbits != GZIP or not self._waiting.startswith(_MAGIC):
            return False
        self._member = zlib.decompressobj(self._wbits)
        return True

    def _chunk(self) -> bytes:
        chunk = self._file.read(_CHUNK if self._left is None else min(_CHUNK, self._left))
        if self._left is not None:
            self._left -= len(chunk)
        return chunk


@contextmanager
def decompressed(path: Path) -> Iterator[IO[bytes] | Decompressed]:
    """Open a file for reading, decompressed if its content is gzip, whatever its ending.

    Bytes read in the block are only known to be intact when the block ends, because the checksums come last.
    Raises `CaseError` if the content is damaged, also in place of an error in the block, which damage explains.
    """
    with path.open("rb") as file:
        compressed = file.read(len(_MAGIC)) == _MAGIC
        file.seek(0)
        if not compressed:
            yield file
            return
        content = Decompressed(file, path)
        try:
            yield content
        except Exception:
            content.finish()
            raise
        content.finish()
