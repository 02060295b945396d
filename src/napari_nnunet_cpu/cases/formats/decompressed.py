"""Content that gzip or zlib compressed, read to its end so that every checksum is compared.

nibabel stops at the last voxel, before the checksum, and prefers indexed_gzip, which ignores it, where it is installed.
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
_CHUNK = 1 << 16  # bytes read at a time, which deflate can make a thousand times as many
_MOST = 1 << 20  # bytes decompressed at a time


class Decompressed(io.RawIOBase):
    """The decompressed content of a file, from its current place on.

    Several gzip members in a row are one content. Bytes after the last member are ignored, as zlib ignores them.

    Parameters
    ----------
    file : file
        Open for reading bytes, at the first compressed one.
    path : Path
        Its path, for messages.
    wbits : int
        `GZIP`, or `GZIP_OR_ZLIB` where the content decides.
    length : int, optional
        How many bytes are compressed; those to the end of the file by default.

    Raises
    ------
    CaseError
        From every method that reads, when the content is damaged or cut off.
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
        """Return True, although going back decompresses from the start again."""
        return True

    def tell(self) -> int:
        """Number of the next byte of the content."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte of the content, counted from its start."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("where the content ends is known at its end only")
        if offset < self._place:
            self._restart()
        while self._place < offset and self._part(offset - self._place):
            pass
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there is content; return how many bytes that were."""
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view) and (part := self._part(len(view) - filled)):
            view[filled : filled + len(part)] = part
            filled += len(part)
        return filled

    def finish(self) -> int:
        """Decompress what is left, compare the checksums and return the length of the content."""
        while self._part(_MOST):
            pass
        return self._place

    def _restart(self) -> None:
        self._file.seek(self._start)
        self._left = self._length
        self._waiting = b""  # compressed
        self._member = zlib.decompressobj(self._wbits)
        self._place = 0

    def _part(self, most: int) -> bytes:
        """The next bytes of the content, `most` at most; none when all is read and fits its checksums."""
        part = b""
        try:
            while not part and (not self._member.eof or self._next_member()):
                self._waiting = self._waiting or self._chunk()
                if not self._waiting:
                    raise CaseError(f"{self._path} is cut off: its compressed part has no end; copy the file again")
                part = self._member.decompress(self._waiting, min(most, _MOST))
                self._waiting = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        except zlib.error as error:
            raise CaseError(
                f"{self._path} is damaged: its compressed part can't be decompressed or does not fit its checksum "
                f"({error}); copy the file again"
            ) from error
        self._place += len(part)
        return part

    def _next_member(self) -> bool:
        """Begin the member after the one that has ended, if there is one."""
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
    """A file, open for reading: its content where gzip compressed it, whatever it is called, else the file itself.

    All checksums have been compared when the block ends, so only then are the bytes read in it known to be sound.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    CaseError
        When the content is damaged or cut off; also in place of an error of the block, which damage explains.
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
