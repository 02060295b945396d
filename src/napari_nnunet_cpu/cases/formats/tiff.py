"""Read TIFF files (plain, ImageJ and OME), and write ImageJ stacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tifffile

from napari_nnunet_cpu.cases.axis_letters import split_axes
from napari_nnunet_cpu.cases.case import Case, SpacingSource, planar_spacing
from napari_nnunet_cpu.cases.formats.pixel_size import pixel_size, spacing_beside
from napari_nnunet_cpu.cases.formats.tiff_pages import check_count, check_series, count_pages
from napari_nnunet_cpu.errors import CaseError, SettingsError, first_line

ENDINGS = (".tif", ".tiff")


def read_tiff(path: Path, name: str, axes: str | None = None) -> Case:
    """Read a TIFF file with axes Y, X and possibly Z and C (or colour samples) to channels (C, Z, Y, X).

    The spacing comes from nnU-Net's JSON file beside the image, or else from OME or ImageJ metadata. `axes`
    replaces wrong axis names in the file: "Z,Y,X", a letter for every axis longer than 1. Raises `CaseError`
    if the file can't be read or has a time axis, and `SettingsError` if `axes` do not fit its shape.
    """
    try:
        with _opened(path, plain_if_incomplete=axes is not None) as (file, pages):
            series = file.series[0]
            check_series(series, path)
            array, found = series.asarray(), series.axes
            check_count(file, pages, path)
            stated = spacing_beside(path)
            spacing = stated or pixel_size(file)
    except CaseError:
        raise
    except Exception as error:  # noqa: BLE001  # a damaged file can make tifffile raise anything
        raise CaseError(f"{path} can't be read as TIFF: {first_line(error)}") from error
    array, planar = _to_czyx(array, found, axes, path)
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
    # minisblack, because tifffile takes an image three or four voxels wide for colours otherwise.
    tifffile.imwrite(path, array, imagej=True, photometric="minisblack", resolution=resolution, metadata=metadata)


@contextmanager
def _opened(path: Path, plain_if_incomplete: bool) -> Iterator[tuple[tifffile.TiffFile, int]]:
    """Open a file and count its pages, ignoring OME metadata that do not fit the pages."""
    with tifffile.TiffFile(path) as file:
        pages = count_pages(file, path)
        if not file.is_ome or _is_described(file, plain_if_incomplete):
            yield file, pages
            return
    with tifffile.TiffFile(path, is_ome=False) as file:
        yield file, pages


def _is_described(file: tifffile.TiffFile, completely: bool) -> bool:
    try:
        return bool(file.series) and not (completely and any(page is None for page in file.series[0].pages))
    except Exception:  # noqa: BLE001  # damaged metadata can raise anything, and pixels are readable without them
        return False


def _to_czyx(array: npt.NDArray[Any], found: str, stated: str | None, path: Path) -> tuple[npt.NDArray[Any], bool]:
    """The array (C, Z, Y, X), and whether the file has no Z axis."""
    if len(found) != array.ndim:
        raise CaseError(f"{path} is damaged: its axes {found} do not fit its shape {array.shape}")
    axis_sizes = [(axis, size) for axis, size in zip(found, array.shape, strict=True) if size > 1 or axis in "YXZ"]
    array = array.reshape([size for _, size in axis_sizes])
    if stated is None:
        # An unnamed axis ("Q", or "I" for pages) is the depth of the stack.
        letters = ["Z" if axis in "QI" else "C" if axis == "S" else axis for axis, _ in axis_sizes]
    else:
        letters = _stated_letters(stated, array.shape)
    if "T" in letters:
        raise CaseError(
            f"{path} is a time series (axes {found}, shape {array.shape}); save one time point of it, or, "
            "where T stands for the depth or the channels, name the axes: Z,Y,X or C,Y,X"
        )
    if sorted(set(letters)) != sorted(letters) or not set(letters) <= set("CZYX"):
        raise CaseError(f"{path} has axes {found}; an image needs axes out of C, Z, Y, X, each once")
    planar = "Z" not in letters
    for axis in "CZ":
        if axis not in letters:
            array, letters = array[None], [axis, *letters]
    return array.transpose([letters.index(axis) for axis in "CZYX"]), planar


def _stated_letters(text: str, shape: tuple[int, ...]) -> list[str]:
    """The axes that the user states, in file order; the spatial axes must be Z, Y, X, as in the labels."""
    letters = split_axes(text, shape, "TCZYX")
    space = [letter for letter in letters if letter not in "TC"]
    if space not in (["Y", "X"], ["Z", "Y", "X"]):
        raise SettingsError(f"axes are {text!r}; a file has Y and X, or Z, Y and X, in this order and forwards")
    return letters
