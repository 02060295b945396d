"""The pixel size in a TIFF file, or in a JSON file beside it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import tifffile

from napari_nnunet_cpu.cases.case import Spacing
from napari_nnunet_cpu.errors import CaseError

_MAX_JSON_BYTES = 2**20  # three numbers take a hundred
_TO_MM = {
    "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "centimeter": 10.0, "m": 1e3, "inch": 25.4, "in": 25.4,
    "µm": 1e-3, "\u03bcm": 1e-3, "um": 1e-3, "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3,
    "\\u00b5m": 1e-3, "nm": 1e-6, "nanometer": 1e-6, "pm": 1e-9, "å": 1e-7,
}  # fmt: skip
# A decimal comma. "1,234" does not match, because its comma may separate thousands.
_DECIMAL_COMMA = re.compile(r"[+-]?(0,\d+|\d+,(\d{1,2}|\d{4,}))(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def spacing_beside(path: Path) -> Spacing | None:
    """The spacing (Z, Y, X) in the JSON file that nnU-Net's Tiff3DIO expects beside an image or label file.

    Raises `CaseError` if the file holds an invalid spacing.
    """
    stem = path.name[: -len(path.suffix)]
    for candidate in (
        path.with_name(f"{stem[:-5]}.json") if stem[-5:-4] == "_" else None,
        path.with_name(f"{stem}.json"),
    ):
        if candidate is not None and candidate.is_file() and candidate.stat().st_size <= _MAX_JSON_BYTES:
            try:
                content = json.loads(candidate.read_bytes())
                if not isinstance(content, dict) or "spacing" not in content:
                    continue  # because it is another document, such as a report
                z, y, x = content["spacing"]
                return float(z), float(y), float(x)
            except (ValueError, TypeError, RecursionError) as error:
                raise CaseError(f'{candidate} must hold {{"spacing": [z, y, x]}}: {error}') from error
    return None


def pixel_size(file: tifffile.TiffFile) -> Spacing | None:
    """The spacing (Z, Y, X) in mm in OME or ImageJ metadata; None if they state none."""
    try:
        return _ome_spacing(file) or _imagej_spacing(file)
    except Exception:  # noqa: BLE001  # damaged metadata can raise anything, and pixels are readable without them
        return None


def _ome_spacing(file: tifffile.TiffFile) -> Spacing | None:
    if not file.ome_metadata:
        return None
    pixels = next((e for e in ElementTree.fromstring(file.ome_metadata).iter() if e.tag.endswith("}Pixels")), None)
    sizes = []
    for axis in "ZYX":
        size = _number(pixels.get(f"PhysicalSize{axis}")) if pixels is not None else None
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm") if pixels is not None else ""
        sizes.append(size * _TO_MM[unit.lower()] if size and unit.lower() in _TO_MM else None)
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
    depth = _number(metadata.get("spacing"))
    return _complete(depth * to_mm if depth else None, y, x)


def _number(written: object) -> float | None:
    """Parse a number in metadata, possibly with a decimal comma; None if it is not a number."""
    text = str(written).strip()
    try:
        return float(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text)
    except ValueError:
        return None


def _complete(z: float | None, y: float | None, x: float | None) -> Spacing | None:
    """The spacing if Y and X are known; without a Z, it is that of Y."""
    if y is None or x is None:
        return None
    spacing = (abs(z or y), abs(y), abs(x))
    return spacing if all(math.isfinite(size) and size > 0 for size in spacing) else None
