"""A picture of labels over their image: the slice with most labels across each axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

from napari_nnunet_cpu.cases import Case, replacing
from napari_nnunet_cpu.predict import Result

# Okabe and Ito's colours, which colour-blind people can tell apart; the first two differ most on grey.
_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178))
_PANEL = 420  # pixels along the longest axis of the volume
_MARGIN = 16
_LINE = 26
_TEXT = (225, 225, 225)
_OPACITY = 0.45


class _View(NamedTuple):
    """A slice across axis `across` of a volume with axes (right, front, top)."""

    across: int
    horizontal: int
    vertical: int
    ends: tuple[str, str]


_VIEWS = (_View(0, 1, 2, ("back", "front")), _View(1, 0, 2, ("L", "R")), _View(2, 0, 1, ("L", "R")))


def write_picture(path: Path, result: Result, note: str) -> Path:
    """Write a PNG with three slices, coloured labels, a legend and a note of one line; return its path.

    If the case has an affine, the patient is upright, left on the left. Raises `OutputError` if it can't be written.
    """
    picture = draw_picture(result, note)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
    return path


def draw_picture(result: Result, note: str) -> Image.Image:
    """The picture for `write_picture`."""
    image, spacing_mm = _upright(result.case.channels[0], result.case)
    labels, _ = _upright(result.labels, result.case)
    places = _fullest(labels)
    pixels_per_mm = _PANEL / max(n * mm for n, mm in zip(image.shape, spacing_mm, strict=True))
    grey, colours = _grey(image), _colour_numbers(labels)
    panels = []
    for view in _VIEWS:
        size = (
            round(image.shape[view.horizontal] * spacing_mm[view.horizontal] * pixels_per_mm),
            round(image.shape[view.vertical] * spacing_mm[view.vertical] * pixels_per_mm),
        )
        panels.append(_panel(_slice(grey, view, places), _slice(colours, view, places), size))
    return _composed(panels, result.label_names, note)


def _upright(array: npt.NDArray[Any], case: Case) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """An array (Z, Y, X) of the case with axes (right, front, top), and the spacing along these in mm."""
    affine = np.diag([*case.spacing_mm[::-1], 1.0]) if case.affine is None else case.affine
    orientation = nib.io_orientation(affine)
    upright = nib.apply_orientation(array.transpose(2, 1, 0), orientation)
    spacing_mm = np.empty(3)
    spacing_mm[orientation[:, 0].astype(int)] = case.spacing_mm[::-1]
    return upright, spacing_mm


def _fullest(labels: npt.NDArray[Any]) -> tuple[int, ...]:
    """The slice with most labelled voxels across each axis; the middle slice without labels."""
    if not labels.any():
        return tuple(length // 2 for length in labels.shape)
    return tuple(int(np.argmax(np.count_nonzero(labels, axis=others))) for others in ((1, 2), (0, 2), (0, 1)))


def _grey(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    low, high = np.percentile(image, (0.5, 99.5))
    grey: npt.NDArray[np.uint8] = (255 * np.clip((image - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
    return grey


def _colour_numbers(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """0 for background, else the index of the label's colour plus 1."""
    return np.where(labels > 0, (labels.astype(np.int32) - 1) % len(_COLOURS) + 1, 0).astype(np.uint8)


def _slice(volume: npt.NDArray[np.uint8], view: _View, places: tuple[int, ...]) -> Image.Image:
    plane = np.moveaxis(volume, view.across, 0)[places[view.across]]
    return Image.fromarray(np.ascontiguousarray(plane.T[::-1]))


def _panel(grey: Image.Image, colours: Image.Image, size: tuple[int, int]) -> Image.Image:
    """One slice in true proportions, with tinted and outlined labels."""
    pixels = np.asarray(grey.resize(size, Image.Resampling.BICUBIC).convert("RGB"), dtype=np.float32)
    numbers = np.asarray(colours.resize(size, Image.Resampling.NEAREST))
    outline = find_boundaries(numbers, connectivity=1, mode="inner")
    opacity = np.expand_dims(np.where(outline, 1.0, _OPACITY) * (numbers > 0), 2)
    tinted = pixels + opacity * (np.array(_COLOURS)[numbers.astype(int) - 1] - pixels)
    return Image.fromarray(tinted.round().astype(np.uint8))


def _composed(panels: list[Image.Image], names: dict[int, str], note: str) -> Image.Image:
    """The panels side by side, directions above them, legend and note below."""
    height = max(panel.height for panel in panels)
    width = sum(panel.width for panel in panels) + _MARGIN * (len(panels) + 1)
    font = ImageFont.load_default(16)
    picture = Image.new("RGB", (width, height + 3 * _LINE + 2 * _MARGIN))
    draw = ImageDraw.Draw(picture)
    x = _MARGIN
    for panel, view in zip(panels, _VIEWS, strict=True):
        picture.paste(panel, (x, _MARGIN + _LINE + (height - panel.height) // 2))
        draw.text((x, _MARGIN), view.ends[0], _TEXT, font)
        draw.text((x + panel.width, _MARGIN), view.ends[1], _TEXT, font, anchor="ra")
        x += panel.width + _MARGIN
    x, y = _MARGIN, _MARGIN + _LINE + height + _MARGIN // 2
    for value, name in names.items():
        if value:
            draw.rectangle((x, y + 3, x + 13, y + 16), _COLOURS[(value - 1) % len(_COLOURS)])
            draw.text((x + 20, y), name, _TEXT, font)
            x += 20 + round(draw.textlength(name, font)) + 2 * _MARGIN
    draw.text((_MARGIN, y + _LINE), note, _TEXT, font)
    return picture
