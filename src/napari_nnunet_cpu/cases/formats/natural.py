"""PNG, JPEG and BMP in, PNG out."""

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
from napari_nnunet_cpu.cases.formats.declared_size import check_claim
from napari_nnunet_cpu.errors import CaseError, OutputError, first_line

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
LABEL_ENDINGS = (".png",)
LOSSY = (".jpg", ".jpeg")

_PNG_START = 8  # where the first chunk begins

# By content, as nnU-Net reads them. Not Image.open(): it knows dozens of formats more, and its bound on
# pixels, which is the whole process's, is smaller than a slide in microscopy.
_KINDS: dict[bytes, type[ImageFile]] = {
    b"\x89PNG": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"BM": BmpImageFile,
}
# Pillow's names for kinds of pixels, each with the fewest bits that a file can keep one in.
_FEWEST_BITS = {"1": 1, "P": 1, "L": 2, "I;16": 16, "I": 16, "RGB": 24, "RGBA": 32}
_CONVERTED = {"P": "RGB", "I": "I;16"}  # "I" is what older versions call 16 bits of grey


def read_natural(path: Path, name: str) -> Case:
    """The image in a PNG, JPEG or BMP file, with the values that nnU-Net's NaturalImage2DIO has.

    A palette becomes colours, colours of 16 bits become 8, and the way a camera was held is not heeded.

    Parameters
    ----------
    path : Path
        A grey, RGB or RGBA image.
    name : str
        What to call it.

    Returns
    -------
    Case
        Channels (C, 1, Y, X), planar, of unknown spacing.

    Raises
    ------
    CaseError
        When the file can't be read, holds several images or pixels of another kind.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
        kind = next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), None)
        if kind is None:
            raise CaseError(f"{path} can't be read as an image: it is no PNG, JPEG or BMP file")
        if kind is PngImageFile:
            _check_png(path)
        with kind(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise CaseError(f"{path} is an animation of {frames} images; save one of them")
            if image.mode not in _FEWEST_BITS:
                raise CaseError(
                    f"{path} has pixels of kind {image.mode}; grey, RGB or RGBA are needed: save it as one of these"
                )
            check_claim(path, image.width * image.height * _FEWEST_BITS[image.mode] / 8)
            image.info.pop("transparency", None)  # nnU-Net takes a palette's colours alone
            mode = _CONVERTED.get(image.mode)
            array = np.asarray(image if mode is None else image.convert(mode))
    except CaseError:
        raise
    except Exception as error:  # noqa: BLE001  # a damaged file can make pillow raise anything
        raise CaseError(f"{path} can't be read as an image: {first_line(error)}") from error
    channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return Case(channels[:, None], planar_spacing((1.0, 1.0)), None, name, SpacingSource.ASSUMED, planar=True)


def _check_png(path: Path) -> None:
    """Compare the checksums of the chunks of a PNG, which Pillow does not when it loads pixels."""
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
                if animations > 1 or not 0 < int.from_bytes(content[:4]) <= 1 << 31:  # Pillow would print a warning
                    raise CaseError(f"{path} is damaged: it is no image and no animation; save it as an image")


def write_png(path: Path, labels: npt.NDArray[Any], case: Case) -> None:
    """Write the labels (1, Y, X) of a planar case as grey pixels of 8 or 16 bits."""
    Image.fromarray(labels[0]).save(path, format="PNG")


def check_png(path: Path, case: Case | None) -> None:
    """Raise `OutputError` for labels of a volume: PNG has no depth."""
    if case is not None and not case.planar:
        raise OutputError(f"{path}: {case.name} is a volume, which can't be written as PNG; use .nii.gz, .nrrd or .tif")
