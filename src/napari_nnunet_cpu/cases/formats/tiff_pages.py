"""Check that a TIFF file holds all its pages, before memory is allocated for them."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import tifffile
from tifffile import COMPRESSION

from napari_nnunet_cpu.cases.formats.declared_size import DEFLATE, UNCOMPRESSED, check_declared_size
from napari_nnunet_cpu.errors import CaseError

# The largest ratio of uncompressed to compressed size.
_MAX_RATIOS: dict[int, int] = {
    COMPRESSION.NONE: UNCOMPRESSED,
    COMPRESSION.PACKBITS: 64,  # 128 bytes as 2
    COMPRESSION.LZW: 2560,  # 3836 bytes as 12 bits
    COMPRESSION.ADOBE_DEFLATE: DEFLATE,
    COMPRESSION.DEFLATE: DEFLATE,
    COMPRESSION.JPEG: 2048,  # 64 pixels as a bit, and fewer colours
    COMPRESSION.LZMA: 1 << 13,
    COMPRESSION.ZSTD: 1 << 15,  # 128 kB as 4 bytes
}
_MAX_RATIO_ELSE = 1 << 16
_MAX_RATIO_SPARSE = 1 << 15  # for empty tiles, which a file may omit: 256 kB as 8 bytes


def count_pages(file: tifffile.TiffFile, path: Path) -> int:
    """Count the pages before tifffile follows their chain, because a damaged chain may never end.

    Raises `CaseError` if the chain leaves the file, returns to an earlier page, or has more pages than fit.
    """
    layout, handle = file.tiff, file.filehandle
    place, left = file.pages.first.offset, handle.size
    places: set[int] = set()
    while place:
        if place in places:
            raise CaseError(f"{path} is damaged: its page {len(places)} is followed by an earlier one")
        places.add(place)
        try:
            handle.seek(place)
            (tags,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
            handle.seek(place + layout.tagnosize + tags * layout.tagsize)
            (place,) = struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))
        except struct.error as error:
            raise _cut_off(path, len(places) - 1) from error
        left -= layout.tagnosize + tags * layout.tagsize + layout.offsetsize
        if left < 0:
            raise CaseError(f"{path} is damaged: its first {len(places)} pages alone would fill more than the file")
    return len(places)


def check_count(file: tifffile.TiffFile, pages: int, path: Path) -> None:
    """Raise `CaseError` if tifffile read fewer pages, because it only logs an error for a damaged page."""
    if len(file.pages) < pages:
        raise _cut_off(path, len(file.pages))


def check_series(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Raise `CaseError` for pages that are missing or larger than the file, because tifffile fills them with zeros."""
    missing, max_ratio, files = 0, UNCOMPRESSED, set()
    for page in series.pages:
        if page is None:
            missing += 1
            continue
        if not page.is_contiguous:
            _check_segments(page, path)
        ratio = _MAX_RATIOS.get(page.compression, _MAX_RATIO_ELSE)
        max_ratio = max(max_ratio, ratio, 0 if all(page.databytecounts) else _MAX_RATIO_SPARSE)
        files.add(page.parent.filehandle.path)
    if missing:
        raise CaseError(
            f"{path}: its metadata describe {len(series.pages)} pages, but {missing} of them are neither in it nor in "
            "files beside it; find them, or name the axes of the pages that exist, as Z,Y,X"
        )
    if len(files) == 1:
        check_declared_size(path, series.nbytes, max_ratio)


def _check_segments(page: tifffile.TiffPage | tifffile.TiffFrame, path: Path) -> None:
    places, lengths, expected = page.dataoffsets, page.databytecounts, math.prod(page.chunked)
    if not len(places) == len(lengths) == expected:
        raise CaseError(
            f"{path} is damaged: a page of shape {page.shape} has {len(places)} strips or tiles instead of {expected}"
        )
    size = page.parent.filehandle.size
    if any(place + length > size for place, length in zip(places, lengths, strict=True)):
        raise CaseError(f"{path} is damaged or cut off: some pixels lie beyond its end; copy the file again")


def _cut_off(path: Path, pages: int) -> CaseError:
    return CaseError(f"{path} is damaged or cut off after page {pages}; copy the file again")
