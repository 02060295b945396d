"""Read PNG, JPEG and BMP, and write PNG."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from napari_nnunet_cpu.cases.case import Case, SpacingSource, planar_spacing
from napari_nnunet_cpu.cases.formats.declared_size import check_declared_size
from napari_nnunet_cpu.errors import CaseError, OutputError, first_line

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
LABEL_ENDINGS = (".png",)
LOSSY = (".jpg", ".jpeg")

_PNG_START = 8  # offset of the first chunk, in bytes

# Chosen by content, as in nnU-Net. Not by Image.open(), because it accepts dozens of further formats, and its
# limit of pixels, shared by the whole process, is smaller than a microscopy slide.
_KINDS: dict[bytes, type[ImageFile]] = {
    b"\x89PNG": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"BM": BmpImageFile,
}
# Fewest bits per pixel in a file, by Pillow's mode.
_FEWEST_BITS = {"1": 1, "P": 1, "L": 2, "I;16": 16, "I": 16, "RGB": 24, "RGBA": 32}
_CONVERTED = {"P": "RGB", "I": "I;16"}  # older versions name 16-bit grey "I"


def read_natural(path: Path, name: str) -> Case:
    """Read a PNG, JPEG or BMP file to channels (C, 1, Y, X) of unknown spacing, like nnU-Net's NaturalImage2DIO.

    A palette becomes RGB, 16-bit colours become 8-bit, and the camera orientation (EXIF) is ignored. Raises
    `CaseError` for a damaged file, an animation, and other pixels than grey, RGB or RGBA.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
        kind = next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), None)
        if kind is None:
            raise CaseError(f"{path} can't be read as an image: it is not a PNG, JPEG or BMP file")
        if kind is PngImageFile:
            _check_png(path)
        with kind(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise CaseError(f"{path} is an animation of {frames} images; save one of them")
            if image.mode not in _FEWEST_BITS:
                raise CaseError(f"{path} has pixels of kind {image.mode}; save it as grey, RGB or RGBA")
            check_declared_size(path, image.width * image.height * _FEWEST_BITS[image.mode] / 8)
            image.info.pop("transparency", None)  # because nnU-Net ignores the transparency of a palette
            mode = _CONVERTED.get(image.mode)
            array = np.asarray(image if mode is None else image.convert(mode))
    except CaseError:
        raise
    except Exception as error:  # noqa: BLE001  # a damaged file can make pillow raise anything
        raise CaseError(f"{path} can't be read as an image: {first_line(error)}") from error
    channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return Case(channels[:, None], planar_spacing((1.0, 1.0)), None, name, SpacingSource.ASSUMED, planar=True)


def _check_png(path: Path) -> None:
    """Compare the checksums of all chunks of a PNG, because Pillow ignores them when it loads pixels."""
    kind, animations = b"", 0
    with path.open("rb") as file:
        file.seek(_PNG_START)
        while kind != b"IEND":
            head = file.read(8)
            length, kind = int.from_bytes(head[:4]), head[4:]
            content = file.read(min(length, path.stat().st_size))
            if file.read(4) != zlib.crc32(kind + content).to_bytes(4):
                raise CaseError(
                    f"{path} is damaged or cut off: a part of it does not fit its checksum; copy the file again"
                )
            if kind == b"acTL":
                animations += 1
                if animations > 1 or not 0 < int.from_bytes(content[:4]) <= 1 << 31:  # Pillow would warn
                    raise CaseError(f"{path} is damaged: it is neither an image nor an animation; save it as an image")


def write_png(path: Path, labels: npt.NDArray[Any], case: Case) -> None:
    """Write the labels (1, Y, X) of a 2D case as grey pixels of 8 or 16 bits."""
    Image.fromarray(labels[0]).save(path, format="PNG")


def check_png(path: Path, case: Case | None) -> None:
    """Raise `OutputError` for labels of a volume, because PNG has no depth."""
    if case is not None and not case.planar:
        raise OutputError(f"{path}: {case.name} is a volume, which can't be written as PNG; use .nii.gz, .nrrd or .tif")
