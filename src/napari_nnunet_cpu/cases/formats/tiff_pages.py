"""Whether the pages of a TIFF file are all there, and how much memory they can take."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import tifffile
from tifffile import COMPRESSION

from napari_nnunet_cpu.cases.formats.declared_size import DEFLATE, UNCOMPRESSED, check_claim
from napari_nnunet_cpu.errors import CaseError

# How many times smaller a compression can make pixels.
_TIMES: dict[int, int] = {
    COMPRESSION.NONE: UNCOMPRESSED,
    COMPRESSION.PACKBITS: 64,  # 128 bytes as 2
    COMPRESSION.LZW: 2560,  # 3836 bytes as 12 bits
    COMPRESSION.ADOBE_DEFLATE: DEFLATE,
    COMPRESSION.DEFLATE: DEFLATE,
    COMPRESSION.JPEG: 2048,  # 64 pixels as a bit, and fewer colours
    COMPRESSION.LZMA: 1 << 13,
    COMPRESSION.ZSTD: 1 << 15,  # 128 kB as 4 bytes
}
_TIMES_ELSE = 1 << 16
_TIMES_SPARSE = 1 << 15  # of tiles that a file does not hold, for they are empty: 256 kB as 8 bytes


def count_pages(file: tifffile.TiffFile, path: Path) -> int:
    """The number of pages, found before tifffile follows their chain, which need not end.

    Raises
    ------
    CaseError
        When the chain leaves the file or goes back to an earlier page, or its pages are more than the file holds.
    """
    layout, handle = file.tiff, file.filehandle
    place, left = file.pages.first.offset, handle.size
    places: set[int] = set()
    while place:
        if place in places:
            raise CaseError(f"{path} is damaged: after its page {len(places)} comes an earlier one again")
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
    """Refuse a file that tifffile did not read all pages of: of a damaged one it only logs an error."""
    if len(file.pages) < pages:
        raise _cut_off(path, len(file.pages))


def check_series(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Refuse pages that are missing, or larger than what the file holds of them.

    tifffile sets memory aside for either and fills it with zeros.
    """
    missing, times, files = 0, UNCOMPRESSED, set()
    for page in series.pages:
        if page is None:
            missing += 1
            continue
        if not page.is_contiguous:
            _check_segments(page, path)
        times = max(times, _TIMES.get(page.compression, _TIMES_ELSE), 0 if all(page.databytecounts) else _TIMES_SPARSE)
        files.add(page.parent.filehandle.path)
    if missing:
        raise CaseError(
            f"{path}: its metadata describe {len(series.pages)} pages, but {missing} of them are not there, nor in "
            "files beside it; find them, or name the axes of those that are there, as Z,Y,X"
        )
    if len(files) == 1:
        check_claim(path, series.nbytes, times)


def _check_segments(page: tifffile.TiffPage | tifffile.TiffFrame, path: Path) -> None:
    places, lengths, expected = page.dataoffsets, page.databytecounts, math.prod(page.chunked)
    if not len(places) == len(lengths) == expected:
        raise CaseError(
            f"{path} is damaged: a page of shape {page.shape} has {len(places)} strips or tiles instead of {expected}"
        )
    size = page.parent.filehandle.size
    if any(place + length > size for place, length in zip(places, lengths, strict=True)):
        raise CaseError(f"{path} is damaged or cut off: pixels are said to lie beyond its end; copy the file again")


def _cut_off(path: Path, pages: int) -> CaseError:
    return CaseError(f"{path} is damaged or cut off after page {pages}; copy the file again")
