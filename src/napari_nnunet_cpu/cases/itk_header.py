"""What a NRRD, MetaImage or GIPL file holds, found without ITK, which believes its header.

From a file that is damaged or cut off, ITK gives voxels that are whatever was in memory (compressed
MetaImages, GIPL) or that fail their checksum (compressed NRRD), and MetaImage complains on stderr.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from napari_nnunet_cpu.cases.claims import check_claim
from napari_nnunet_cpu.errors import CaseError

_GIPL_BYTES = 256
_GIPL_MAGIC = (b"\xef\xff\xe9\xb0", b"\x2a\xe3\x89\xb8")
_LONGEST_HEADER = 1 << 20
_CHUNK = 1 << 20
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


@dataclass(frozen=True)
class Held:
    """Bytes of voxels in a file, uncompressed; None where only ITK can tell (as text, other compression)."""

    voxel_bytes: int | None
    compressed: bool = False

    def check(self, path: Path, claimed: int) -> None:
        """Raise `CaseError` when the header claims another number of bytes of voxels, and memory for them."""
        held = self.voxel_bytes
        if held is None:
            check_claim(path, claimed)
        elif claimed > held or (self.compressed and claimed != held):
            raise CaseError(f"{path} is damaged or cut off: {claimed} bytes of voxels are claimed, {held} are there")


def look(path: Path) -> Held:
    """What a file holds.

    Parameters
    ----------
    path : Path
        Ends with .nrrd, .mha or .gipl.

    Returns
    -------
    Held
        To compare with what ITK reads in the header.

    Raises
    ------
    CaseError
        When the header is none of that format, names another file for the voxels, or the compressed
        voxels are damaged or cut off.
    """
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEADER)
    return {".nrrd": _nrrd, ".mha": _mha, ".gipl": _gipl}[path.suffix.lower()](path, head)


def _nrrd(path: Path, head: bytes) -> Held:
    end = re.search(rb"\r?\n\r?\n", head)
    fields = _fields(head[: end.start()] if end else b"")
    if end is None or not head.startswith(b"NRRD") or not {b"sizes", b"encoding"} <= fields.keys():
        raise _no_header(path, "NRRD")
    if {b"data file", b"datafile"} & fields.keys():
        raise _detached(path)
    encoding = fields[b"encoding"].lower()
    if encoding in (b"gzip", b"gz") and not {b"line skip", b"lineskip", b"byte skip", b"byteskip"} & fields.keys():
        return Held(_inflated_bytes(path, end.end(), path.stat().st_size), compressed=True)
    return Held(path.stat().st_size - end.end() if encoding == b"raw" else None)


def _mha(path: Path, head: bytes) -> Held:
    last = re.search(rb"^ElementDataFile *[=:]([^\r\n]*)\r?\n", head, re.MULTILINE)
    fields = _fields(head[: last.start()] if last else b"")
    if last is None or not {b"ndims", b"dimsize", b"elementtype"} <= fields.keys():
        raise _no_header(path, "MHA")
    if last[1].strip().lower() != b"local":
        raise _detached(path)
    binary = fields.get(b"binarydata")
    if not _is_true(fields.get(b"compresseddata", b"")):
        return Held(path.stat().st_size - last.end() if binary is None or _is_true(binary) else None)
    length = fields.get(b"compresseddatasize", b"")
    if binary is None or not _is_true(binary) or not length.isdigit():
        raise _no_header(path, "MHA")
    return Held(_inflated_bytes(path, last.end(), int(length)), compressed=True)


def _gipl(path: Path, head: bytes) -> Held:
    if head[_GIPL_BYTES - 4 : _GIPL_BYTES] not in _GIPL_MAGIC:
        raise _no_header(path, "GIPL")
    return Held(path.stat().st_size - _GIPL_BYTES)


def _fields(header: bytes) -> dict[bytes, bytes]:
    """The lines "key: value" or "key = value" of a header, the keys in small letters."""
    pairs = (re.split(rb"[:=]", line, maxsplit=1) for line in header.splitlines() if re.search(rb"[:=]", line))
    return {key.strip().lower(): value.strip() for key, value in pairs}


def _is_true(value: bytes) -> bool:
    return value[:1] in (b"T", b"t", b"1")


def _inflated_bytes(path: Path, start: int, length: int) -> int:
    """Size of what is compressed in `length` bytes from `start` on; its checksum is looked at."""
    inflate, total = zlib.decompressobj(_GZIP_OR_ZLIB), 0
    try:
        with path.open("rb") as file:
            file.seek(start)
            while not inflate.eof and (chunk := inflate.unconsumed_tail or file.read(min(_CHUNK, length))):
                length -= 0 if inflate.unconsumed_tail else len(chunk)
                total += len(inflate.decompress(chunk, 16 * _CHUNK))
    except zlib.error as error:
        raise CaseError(f"{path} is damaged: its voxels can't be decompressed ({error})") from error
    if not inflate.eof:
        raise CaseError(f"{path} is cut off: its compressed voxels have no end; copy the file again")
    return total


def _no_header(path: Path, kind: str) -> CaseError:
    return CaseError(f"{path} can't be read as {kind}: it has no header of that format, or not all of it")


def _detached(path: Path) -> CaseError:
    return CaseError(f"{path} keeps its voxels in another file; save it as one file")
