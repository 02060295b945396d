"""TIFF stacks in and out: plain, ImageJ and OME."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import tifffile

from napari_nnunet_cpu.cases.case import Case, Spacing, SpacingSource, planar_spacing
from napari_nnunet_cpu.errors import CaseError, first_line

ENDINGS = (".tif", ".tiff")

_LARGEST_JSON = 2**20  # bytes; three numbers take a hundred
_TO_MM = {
    "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "centimeter": 10.0, "m": 1e3, "inch": 25.4, "in": 25.4,
    "µm": 1e-3, "\u03bcm": 1e-3, "um": 1e-3, "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3,
    "\\u00b5m": 1e-3, "nm": 1e-6, "nanometer": 1e-6, "pm": 1e-9, "å": 1e-7,
}  # fmt: skip


def read_tiff(path: Path, name: str) -> Case:
    """The image in a TIFF file.

    The spacing comes from the first of: nnU-Net's JSON file beside it ("spacing", taken as it
    stands), OME metadata, ImageJ metadata. Without any it is unknown.

    Parameters
    ----------
    path : Path
        A file with axes Y, X and possibly Z and C (or colour samples).
    name : str
        What to call it.

    Returns
    -------
    Case
        Channels (C, Z, Y, X).

    Raises
    ------
    CaseError
        When the file can't be read or has a time axis.
    """
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            _check_segments(series, path)
            array, axes = series.asarray(), series.axes
            _check_complete(file, path)
            stated = _beside(path)
            spacing = stated or _ome_spacing(file) or _imagej_spacing(file)
    except CaseError:
        raise
    except Exception as error:  # noqa: BLE001  # a damaged file can make tifffile raise anything
        raise CaseError(f"{path} can't be read as TIFF: {first_line(error)}") from error
    array, planar = _to_czyx(array, axes, path)
    source = (
        SpacingSource.STATED if stated else SpacingSource.PIXEL_SIZE if spacing is not None else SpacingSource.ASSUMED
    )
    spacing = spacing or (1.0, 1.0, 1.0)
    return Case(array, planar_spacing(spacing[1:]) if planar else spacing, None, name, source, planar)


def write_tiff(path: Path, labels: npt.NDArray[Any], case: Case) -> None:
    """Write labels (Z, Y, X) as an ImageJ stack whose metadata state the spacing."""
    z, y, x = case.grid_spacing_mm
    metadata: dict[str, Any] = {"axes": "YX" if case.planar else "ZYX"}
    resolution = None
    if case.spacing_known:
        metadata |= {"unit": "mm"} if case.planar else {"unit": "mm", "spacing": z}
        resolution = (1 / x, 1 / y)
    array = labels[0] if case.planar else labels
    # minisblack: tifffile takes an image three or four voxels wide for colours otherwise.
    tifffile.imwrite(path, array, imagej=True, photometric="minisblack", resolution=resolution, metadata=metadata)


def _to_czyx(array: npt.NDArray[Any], axes: str, path: Path) -> tuple[npt.NDArray[Any], bool]:
    """The array with axes (C, Z, Y, X), and whether it has no Z of its own."""
    if len(axes) != array.ndim:
        raise CaseError(f"{path} is damaged: its axes {axes} do not fit its shape {array.shape}")
    kept = [axis for axis, size in zip(axes, array.shape, strict=True) if size > 1 or axis in "YXZ"]
    array = array.reshape([size for axis, size in zip(axes, array.shape, strict=True) if size > 1 or axis in "YXZ"])
    if "T" in kept:
        raise CaseError(f"{path} is a time series (axes {axes}, shape {array.shape}); save one time point of it")
    # An axis that the file does not name ("Q", "I": pages) is the stack's depth.
    letters = ["Z" if axis in "QI" else "C" if axis == "S" else axis for axis in kept]
    if sorted(set(letters)) != sorted(letters) or not set(letters) <= set("CZYX"):
        raise CaseError(f"{path} has axes {axes}; axes out of C, Z, Y, X are needed, each once")
    planar = "Z" not in letters
    for axis in "CZ":
        if axis not in letters:
            array, letters = array[None], [axis, *letters]
    return array.transpose([letters.index(axis) for axis in "CZYX"]), planar


def _check_segments(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Refuse a page larger than its strips or tiles: tifffile sets memory aside for it and fills it with zeros."""
    for page in series.pages:
        if page is not None and not page.is_contiguous and len(page.dataoffsets) != math.prod(page.chunked):
            raise CaseError(
                f"{path} is damaged: a page of shape {page.shape} has {len(page.dataoffsets)} strips or tiles "
                f"instead of {math.prod(page.chunked)}"
            )


def _check_complete(file: tifffile.TiffFile, path: Path) -> None:
    """Refuse a file that was cut off: tifffile reads the pages that are left and only logs an error."""
    layout, handle = file.tiff, file.filehandle
    directory = file.pages[-1].offset
    handle.seek(directory)
    (tags,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
    handle.seek(directory + layout.tagnosize + tags * layout.tagsize)
    (following,) = struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))
    if following:
        raise CaseError(f"{path} is damaged or cut off after page {len(file.pages)}; copy the file again")


def _beside(path: Path) -> Spacing | None:
    """Spacing in the JSON file that nnU-Net's Tiff3DIO expects beside an image or a label file."""
    stem = path.name[: -len(path.suffix)]
    for candidate in (
        path.with_name(f"{stem[:-5]}.json") if stem[-5:-4] == "_" else None,
        path.with_name(f"{stem}.json"),
    ):
        if candidate is not None and candidate.is_file() and candidate.stat().st_size <= _LARGEST_JSON:
            try:
                content = json.loads(candidate.read_text())
                if not isinstance(content, dict) or "spacing" not in content:
                    continue  # it is about something else, such as a report
                z, y, x = content["spacing"]
                return float(z), float(y), float(x)
            except (ValueError, TypeError, RecursionError) as error:
                raise CaseError(f'{candidate} must hold {{"spacing": [z, y, x]}}: {error}') from error
    return None


def _ome_spacing(file: tifffile.TiffFile) -> Spacing | None:
    if not file.ome_metadata:
        return None
    pixels = next((e for e in ElementTree.fromstring(file.ome_metadata).iter() if e.tag.endswith("}Pixels")), None)
    sizes = []
    for axis in "ZYX":
        size = pixels.get(f"PhysicalSize{axis}") if pixels is not None else None
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm") if pixels is not None else ""
        sizes.append(float(size) * _TO_MM[unit.lower()] if size and unit.lower() in _TO_MM else None)
    return _complete(sizes[0], sizes[1], sizes[2])


def _imagej_spacing(file: tifffile.TiffFile) -> Spacing | None:
    metadata = file.imagej_metadata or {}
    to_mm = _TO_MM.get(str(metadata.get("unit", "")).lower())
    if to_mm is None:
        return None
    tags = file.pages.first.tags
    resolution = [tags[tag].value for tag in ("YResolution", "XResolution") if tag in tags]
    if len(resolution) != 2 or not all(numerator for numerator, _ in resolution):
        return None
    y, x = (denominator / numerator * to_mm for numerator, denominator in resolution)
    depth = metadata.get("spacing")
    return _complete(float(depth) * to_mm if depth else None, y, x)


def _complete(z: float | None, y: float | None, x: float | None) -> Spacing | None:
    """The spacing, if its plane is known; a depth that is not stated is that of the plane's Y."""
    if y is None or x is None:
        return None
    spacing = (abs(z or y), abs(y), abs(x))
    return spacing if all(np.isfinite(s) and s > 0 for s in spacing) else None
