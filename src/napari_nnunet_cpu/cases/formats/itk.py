"""Read NRRD, MetaImage and GIPL, and write NRRD and MetaImage, with the optional package SimpleITK."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases.case import Case, Spacing, planar_spacing
from napari_nnunet_cpu.cases.formats.itk_header import read_content
from napari_nnunet_cpu.errors import CaseError, NNUNetCPUError, OutputError

# Chosen by the ending and not by the content, so that no other reader of ITK ever opens the file.
_FORMATS = {".nrrd": "NrrdImageIO", ".mha": "MetaImageIO", ".gipl": "GiplImageIO"}
ENDINGS = tuple(_FORMATS)
# Not GIPL, because it has no directions, so labels would be displaced.
LABEL_ENDINGS = (".nrrd", ".mha")

# ITK's patient axes are left, posterior, superior; NIfTI's are right, anterior, superior.
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_itk(path: Path, name: str) -> Case:
    """Read a 2D, 3D or 4D image to channels (C, Z, Y, X) in file order, like nnU-Net's SimpleITKIO.

    Channels are the fourth axis, or the components of a vector image. Raises `CaseError` if the file can't be
    read or SimpleITK is not installed.
    """
    sitk = _simpleitk(path, CaseError)
    try:
        content = read_content(path)
        reader = sitk.ImageFileReader()
        reader.SetImageIO(_FORMATS[path.suffix.lower()])
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size, axes, components = reader.GetSize(), reader.GetDimension(), reader.GetNumberOfComponents()
        if axes not in (2, 3, 4) or (axes == 4 and components > 1):
            raise CaseError(
                f"{path} has axes {size} of {components} components; an image of 2 or 3 axes is needed, "
                "or of 4 whose last is channels"
            )
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        if "complex" in kind:
            raise CaseError(f"{path}: expected real numbers, found {kind}")
        component_bytes = sitk.Image([1] * axes, reader.GetPixelID()).GetSizeOfPixelComponent()
        content.check(path, math.prod(size) * components, component_bytes)
        image = reader.Execute()
        array = sitk.GetArrayFromImage(image)
    except CaseError:
        raise
    except Exception as error:  # noqa: BLE001  # a damaged file can make ITK raise anything
        raise CaseError(f"{path} can't be read as {path.suffix[1:].upper()}: {_reason(error)}") from error
    if array.ndim > axes:
        array = np.moveaxis(array, -1, 0)
    elif axes < 4:
        array = array[None]
    x, y, *z = (abs(s) for s in image.GetSpacing())
    spacing: Spacing = (z[0], y, x) if z else planar_spacing((y, x))
    return Case(array[:, None] if axes == 2 else array, spacing, _affine(image), name, planar=axes == 2)


def write_itk(path: Path, labels: npt.NDArray[Any], case: Case) -> None:
    """Write labels (Z, Y, X) on the grid of `case`, compressed; without an affine, only the spacing is written."""
    sitk = _simpleitk(path, OutputError)
    spacing, origin, direction = _grid(path, case)
    try:
        image = sitk.GetImageFromArray(labels[0] if case.planar else labels, isVector=False)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        image.SetDirection(direction)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO(_FORMATS[path.suffix.lower()])
        writer.SetFileName(str(path))
        writer.UseCompressionOn()
        writer.Execute(image)
    except RuntimeError as error:
        raise OutputError(_reason(error)) from error


def check_itk(path: Path, case: Case | None) -> None:
    """Raise `OutputError` if SimpleITK is not installed, or its images can't hold the grid of the case."""
    _simpleitk(path, OutputError)
    if case is not None:
        _grid(path, case)


def _simpleitk(path: Path, error: type[NNUNetCPUError]) -> Any:
    try:
        return importlib.import_module("SimpleITK")
    except ImportError as missing:
        raise error(f"{path} needs SimpleITK: pip install 'napari-nnunet-cpu[itk]'") from missing


def _affine(image: Any) -> npt.NDArray[np.float64]:
    """The affine (4, 4) of an ITK image: voxel index (x, y, z, 1) to RAS+ mm."""
    axes = image.GetDimension()
    n = min(axes, 3)
    lps = np.eye(4)
    lps[:n, :n] = np.reshape(image.GetDirection(), (axes, axes))[:n, :n] * image.GetSpacing()[:n]
    lps[:n, 3] = image.GetOrigin()[:n]
    affine: npt.NDArray[np.float64] = _RAS @ lps
    return affine


def _grid(path: Path, case: Case) -> tuple[list[float], list[float], list[float]]:
    """Spacing (x, y, z) in mm, origin and direction (LPS) of an ITK image on the grid of `case`."""
    lps = _RAS @ case.seen_by("SimpleITKIO").to_world
    axes = 2 if case.planar else 3
    spacing = np.linalg.norm(lps[:axes, :axes], axis=0)
    if not np.allclose(spacing, np.linalg.norm(lps[:3, :axes], axis=0), rtol=1e-4):
        raise OutputError(f"{path}: a 2D image of this format can't lie oblique in space as {case.name} does; use .nii")
    if np.linalg.det(lps[:axes, :axes]) == 0:
        raise OutputError(f"{path}: the affine of {case.name} has no inverse, which this format can't keep; use .tif")
    return spacing.tolist(), lps[:axes, 3].tolist(), (lps[:axes, :axes] / spacing).ravel().tolist()


def _reason(error: Exception) -> str:
    """The most informative line of an ITK error, without its source location."""
    lines = str(error).splitlines() or [type(error).__name__]
    informative = [line for line in lines if "[nrrd]" in line or "ERROR: " in line] or lines
    text = re.sub(r"^.*?(\[nrrd\]|ERROR:) (\w+\(0x\w+\): )?", "", informative[-1])
    # Escaped, because ITK quotes bytes of a damaged header.
    return text.encode("ascii", "backslashreplace").decode()
