"""The amount of voxel data in a NRRD, MetaImage or GIPL file, found without ITK, because ITK trusts the header.

From a damaged or truncated file, ITK returns voxels of uninitialized memory (compressed MetaImage, GIPL)
or with a wrong checksum (compressed NRRD), and its MetaImage reader prints on stderr.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from napari_nnunet_cpu.cases.formats.declared_size import check_declared_size
from napari_nnunet_cpu.cases.formats.decompressed import GZIP, GZIP_OR_ZLIB, Decompressed
from napari_nnunet_cpu.errors import CaseError

_GIPL_BYTES = 256
_GIPL_SPACING = 10  # offset of the spacing, in bytes
_GIPL_MAGIC = (b"\xef\xff\xe9\xb0", b"\x2a\xe3\x89\xb8")
_MAX_HEADER = 1 << 20
# Fields of MetaImage with a number per axis (1) or per pair of axes (2), text fields, and the limits of ITK's buffers.
_MHA_LISTS = {
    b"DimSize": 1, b"ElementSpacing": 1, b"ElementSize": 1, b"Offset": 1, b"Position": 1, b"Origin": 1,
    b"CenterOfRotation": 1, b"SequenceID": 1, b"TransformMatrix": 2, b"Rotation": 2, b"Orientation": 2,
}  # fmt: skip
_MHA_TEXTS = {
    b"ObjectType", b"ObjectSubType", b"Comment", b"Name", b"AcquisitionDate", b"TransformType", b"DistanceUnits",
    b"AnatomicalOrientation", b"Modality", b"ElementType",
}  # fmt: skip
_MAX_MHA_TEXT = 499
_MAX_MHA_VALUE = 1 << 15
_MAX_MHA_NUMBERS = 100


@dataclass(frozen=True)
class FileContent:
    """The voxel data in a file: uncompressed bytes, or numbers written as text; None if only ITK can tell."""

    voxel_bytes: int | None
    compressed: bool = False
    numbers: int | None = None

    def check(self, path: Path, declared_numbers: int, number_bytes: int) -> None:
        """Raise `CaseError` if the header declares more data than the file has, or less compressed data."""
        declared = declared_numbers * number_bytes
        if self.numbers is not None and declared_numbers > self.numbers:
            raise CaseError(
                f"{path} is damaged or cut off: its header declares {declared_numbers} numbers, "
                f"the file holds {self.numbers}; copy the file again"
            )
        found = self.voxel_bytes
        if found is None:
            check_declared_size(path, declared)
        elif declared > found or (self.compressed and declared != found):
            raise CaseError(
                f"{path} is damaged or cut off: its header declares {declared} bytes of voxels, "
                f"the file holds {found}; copy the file again"
            )


def read_content(path: Path) -> FileContent:
    """The content of a .nrrd, .mha or .gipl file, to compare with the header that ITK reads.

    Raises `CaseError` if the header is incomplete, refers to another file, or compressed voxels are damaged.
    """
    with path.open("rb") as file:
        head = file.read(_MAX_HEADER)
    return {".nrrd": _nrrd, ".mha": _mha, ".gipl": _gipl}[path.suffix.lower()](path, head)


def _nrrd(path: Path, head: bytes) -> FileContent:
    end = re.search(rb"\r?\n\r?\n", head)
    fields = _fields(head[: end.start()] if end else b"")
    if end is None or not head.startswith(b"NRRD") or not {b"sizes", b"encoding"} <= fields.keys():
        raise _no_header(path, "NRRD")
    if {b"data file", b"datafile"} & fields.keys():
        raise _detached(path)
    encoding = fields[b"encoding"].lower()
    if encoding in (b"gzip", b"gz"):
        return _compressed_nrrd(path, head, end.end(), fields)
    return FileContent(path.stat().st_size - end.end() if encoding == b"raw" else None)


def _compressed_nrrd(path: Path, head: bytes, start: int, fields: dict[bytes, bytes]) -> FileContent:
    """The content after lines to skip and, once decompressed, bytes to skip; -1 skips all bytes before the voxels."""
    lines, skipped = (
        int(fields.get(b"%b skip" % unit, fields.get(b"%bskip" % unit, 0))) for unit in (b"line", b"byte")
    )
    for _ in range(lines):
        start = head.index(b"\n", start) + 1
    return FileContent(_decompressed_bytes(path, start, GZIP) - max(skipped, 0), compressed=skipped >= 0)


def _mha(path: Path, head: bytes) -> FileContent:
    last = re.search(rb"^ElementDataFile *[=:]([^\r\n]*)\r?\n", head, re.MULTILINE)
    fields = _mha_fields(head[: last.start()] if last else b"")
    if last is None or not {b"NDims", b"DimSize", b"ElementType"} <= fields.keys():
        raise _no_header(path, "MHA")
    if last[1].strip() not in (b"LOCAL", b"Local", b"local"):
        raise _detached(path)
    binary = _is_true(fields.get(b"BinaryData", b"True"))
    if not _is_true(fields.get(b"CompressedData", b"")):
        if binary:
            return FileContent(path.stat().st_size - last.end())
        return FileContent(None, numbers=len(path.read_bytes()[last.end() :].split()))
    length = fields.get(b"CompressedDataSize", b"")
    if b"BinaryData" not in fields or not binary or not length.isdigit():
        raise _no_header(path, "MHA")
    if int(length) > path.stat().st_size - last.end():
        raise CaseError(f"{path} is cut off: its header declares {int(length)} compressed bytes; copy the file again")
    return FileContent(_decompressed_bytes(path, last.end(), GZIP_OR_ZLIB, int(length)), compressed=True)


def _mha_fields(header: bytes) -> dict[bytes, bytes]:
    """The fields "key = value" of a header; empty if ITK would crash, hang or print on stderr because of them."""
    fields: dict[bytes, bytes] = {}
    for line in filter(None, map(bytes.strip, header.splitlines())):
        key, *values = (part.strip() for part in re.split(rb"[:=]", line, maxsplit=1))
        value = values[0] if values else b""
        axes = int(fields.get(b"NDims", 0))
        wrong = (
            key in fields
            or not values
            or b"\0" in line
            or len(key) >= _MAX_MHA_TEXT
            or len(value) >= (_MAX_MHA_TEXT if key in _MHA_TEXTS else _MAX_MHA_VALUE)
            or (key == b"NDims" and re.fullmatch(rb"[1-9]|10", value) is None)
            or (key == b"DimSize" and not all(map(bytes.isdigit, value.split())))
            or (key in _MHA_LISTS and not 1 <= axes ** _MHA_LISTS[key] <= len(value.split()) <= _MAX_MHA_NUMBERS)
        )
        if wrong:
            return {}
        fields[key] = value
    return fields


def _gipl(path: Path, head: bytes) -> FileContent:
    if head[_GIPL_BYTES - 4 : _GIPL_BYTES] not in _GIPL_MAGIC:
        raise _no_header(path, "GIPL")
    spacing = struct.unpack_from(">4f", head, _GIPL_SPACING)
    if not all(math.isfinite(size) for size in spacing):  # because ITK prints on stderr
        raise CaseError(f"{path} is damaged: its spacing (x, y, z, t) is {spacing}")
    return FileContent(path.stat().st_size - _GIPL_BYTES)


def _fields(header: bytes) -> dict[bytes, bytes]:
    """The lines "key: value" or "key = value" of a header, with keys in lower case."""
    pairs = (re.split(rb"[:=]", line, maxsplit=1) for line in header.splitlines() if re.search(rb"[:=]", line))
    return {key.strip().lower(): value.strip() for key, value in pairs}


def _is_true(value: bytes) -> bool:
    return value[:1] in (b"T", b"t", b"1")


def _decompressed_bytes(path: Path, start: int, wbits: int, length: int | None = None) -> int:
    """Decompressed size of `length` bytes (or all) from `start` on, after comparing the checksum."""
    with path.open("rb") as file:
        file.seek(start)
        return Decompressed(file, path, wbits, length).finish()


def _no_header(path: Path, kind: str) -> CaseError:
    return CaseError(f"{path} can't be read as {kind}: it has no header of that format, or not all of it")


def _detached(path: Path) -> CaseError:
    return CaseError(f"{path} keeps its voxels in another file; save it as one file")
