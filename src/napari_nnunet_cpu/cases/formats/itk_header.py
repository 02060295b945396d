"""What a NRRD, MetaImage or GIPL file holds, found without ITK, which believes its header.

From a file that is damaged or cut off, ITK gives voxels that are whatever was in memory (compressed
MetaImages, GIPL) or that fail their checksum (compressed NRRD), and MetaImage complains on stderr.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from napari_nnunet_cpu.cases.formats.declared_size import check_claim
from napari_nnunet_cpu.cases.formats.decompressed import GZIP, GZIP_OR_ZLIB, Decompressed
from napari_nnunet_cpu.errors import CaseError

_GIPL_BYTES = 256
_GIPL_SPACING = 10  # where it is
_GIPL_MAGIC = (b"\xef\xff\xe9\xb0", b"\x2a\xe3\x89\xb8")
_LONGEST_HEADER = 1 << 20
# Of MetaImage: fields with a number for every axis, or for every pair of axes, and the room that ITK has for values.
_MHA_LISTS = {
    b"DimSize": 1, b"ElementSpacing": 1, b"ElementSize": 1, b"Offset": 1, b"Position": 1, b"Origin": 1,
    b"CenterOfRotation": 1, b"SequenceID": 1, b"TransformMatrix": 2, b"Rotation": 2, b"Orientation": 2,
}  # fmt: skip
_MHA_TEXTS = {
    b"ObjectType", b"ObjectSubType", b"Comment", b"Name", b"AcquisitionDate", b"TransformType", b"DistanceUnits",
    b"AnatomicalOrientation", b"Modality", b"ElementType",
}  # fmt: skip
_LONGEST_MHA_TEXT = 499
_LONGEST_MHA_VALUE = 1 << 15
_MAX_MHA_NUMBERS = 100


@dataclass(frozen=True)
class Held:
    """Bytes of voxels in a file, uncompressed, or numbers written as text; None for what only ITK can tell."""

    voxel_bytes: int | None
    compressed: bool = False
    numbers: int | None = None

    def check(self, path: Path, claimed_numbers: int, number_bytes: int) -> None:
        """Raise `CaseError` when the header claims more than is there, or, of what is compressed, less."""
        claimed = claimed_numbers * number_bytes
        if self.numbers is not None and claimed_numbers > self.numbers:
            raise CaseError(
                f"{path} is damaged or cut off: {claimed_numbers} numbers are claimed, {self.numbers} there"
            )
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
    if encoding in (b"gzip", b"gz"):
        return _compressed_nrrd(path, head, end.end(), fields)
    return Held(path.stat().st_size - end.end() if encoding == b"raw" else None)


def _compressed_nrrd(path: Path, head: bytes, start: int, fields: dict[bytes, bytes]) -> Held:
    """What is held after lines to skip and, once decompressed, bytes to skip; -1 skips all but the voxels."""
    lines, skipped = (
        int(fields.get(b"%b skip" % unit, fields.get(b"%bskip" % unit, 0))) for unit in (b"line", b"byte")
    )
    for _ in range(lines):
        start = head.index(b"\n", start) + 1
    return Held(_decompressed_bytes(path, start, GZIP) - max(skipped, 0), compressed=skipped >= 0)


def _mha(path: Path, head: bytes) -> Held:
    last = re.search(rb"^ElementDataFile *[=:]([^\r\n]*)\r?\n", head, re.MULTILINE)
    fields = _mha_fields(head[: last.start()] if last else b"")
    if last is None or not {b"NDims", b"DimSize", b"ElementType"} <= fields.keys():
        raise _no_header(path, "MHA")
    if last[1].strip() not in (b"LOCAL", b"Local", b"local"):
        raise _detached(path)
    binary = _is_true(fields.get(b"BinaryData", b"True"))
    if not _is_true(fields.get(b"CompressedData", b"")):
        if binary:
            return Held(path.stat().st_size - last.end())
        return Held(None, numbers=len(path.read_bytes()[last.end() :].split()))
    length = fields.get(b"CompressedDataSize", b"")
    if b"BinaryData" not in fields or not binary or not length.isdigit():
        raise _no_header(path, "MHA")
    if int(length) > path.stat().st_size - last.end():
        raise CaseError(f"{path} is cut off: its header claims {int(length)} compressed bytes; copy the file again")
    return Held(_decompressed_bytes(path, last.end(), GZIP_OR_ZLIB, int(length)), compressed=True)


def _mha_fields(header: bytes) -> dict[bytes, bytes]:
    """The fields "key = value" of a header; none where ITK, which trusts it, would crash, hang or print on stderr."""
    fields: dict[bytes, bytes] = {}
    for line in filter(None, map(bytes.strip, header.splitlines())):
        key, *values = (part.strip() for part in re.split(rb"[:=]", line, maxsplit=1))
        value = values[0] if values else b""
        axes = int(fields.get(b"NDims", 0))
        wrong = (
            key in fields
            or not values
            or b"\0" in line
            or len(key) >= _LONGEST_MHA_TEXT
            or len(value) >= (_LONGEST_MHA_TEXT if key in _MHA_TEXTS else _LONGEST_MHA_VALUE)
            or (key == b"NDims" and re.fullmatch(rb"[1-9]|10", value) is None)
            or (key == b"DimSize" and not all(map(bytes.isdigit, value.split())))
            or (key in _MHA_LISTS and not 1 <= axes ** _MHA_LISTS[key] <= len(value.split()) <= _MAX_MHA_NUMBERS)
        )
        if wrong:
            return {}
        fields[key] = value
    return fields


def _gipl(path: Path, head: bytes) -> Held:
    if head[_GIPL_BYTES - 4 : _GIPL_BYTES] not in _GIPL_MAGIC:
        raise _no_header(path, "GIPL")
    spacing = struct.unpack_from(">4f", head, _GIPL_SPACING)
    if not all(math.isfinite(size) for size in spacing):  # ITK complains on stderr
        raise CaseError(f"{path} is damaged: its spacing (x, y, z, t) is {spacing}")
    return Held(path.stat().st_size - _GIPL_BYTES)


def _fields(header: bytes) -> dict[bytes, bytes]:
    """The lines "key: value" or "key = value" of a header, the keys in small letters."""
    pairs = (re.split(rb"[:=]", line, maxsplit=1) for line in header.splitlines() if re.search(rb"[:=]", line))
    return {key.strip().lower(): value.strip() for key, value in pairs}


def _is_true(value: bytes) -> bool:
    return value[:1] in (b"T", b"t", b"1")


def _decompressed_bytes(path: Path, start: int, wbits: int, length: int | None = None) -> int:
    """Size of what is compressed from `start` on, in `length` bytes or to the end; its checksum is compared."""
    with path.open("rb") as file:
        file.seek(start)
        return Decompressed(file, path, wbits, length).finish()


def _no_header(path: Path, kind: str) -> CaseError:
    return CaseError(f"{path} can't be read as {kind}: it has no header of that format, or not all of it")


def _detached(path: Path) -> CaseError:
    return CaseError(f"{path} keeps its voxels in another file; save it as one file")
