"""Read cases from files of any format, and write labels to files atomically."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases.case import Case, Spacing, SpacingSource, stack_channels
from napari_nnunet_cpu.cases.formats import itk, natural, nifti, quiet, tiff
from napari_nnunet_cpu.errors import CaseError, OutputError, SettingsError
from napari_nnunet_cpu.whole_files import whole_file

_READERS: dict[str, Callable[[Path, str], Case]] = {
    **dict.fromkeys(nifti.ENDINGS, nifti.read_nifti),
    **dict.fromkeys(itk.ENDINGS, itk.read_itk),
    **dict.fromkeys(tiff.ENDINGS, tiff.read_tiff),
    **dict.fromkeys(natural.ENDINGS, natural.read_natural),
}
_WRITERS: dict[str, Callable[[Path, npt.NDArray[Any], Case], None]] = {
    **dict.fromkeys(nifti.ENDINGS, nifti.write_nifti),
    **dict.fromkeys(itk.LABEL_ENDINGS, itk.write_itk),
    **dict.fromkeys(tiff.ENDINGS, tiff.write_tiff),
    **dict.fromkeys(natural.LABEL_ENDINGS, natural.write_png),
}
_CHECKS: dict[str, Callable[[Path, Case | None], None]] = {
    **dict.fromkeys(itk.LABEL_ENDINGS, itk.check_itk),
    **dict.fromkeys(natural.LABEL_ENDINGS, natural.check_png),
}
LABEL_ENDINGS = tuple(_WRITERS)
FRACTION_ENDINGS = tuple(ending for ending in _WRITERS if ending not in natural.LABEL_ENDINGS)
_LARGEST_LABEL = 2**16 - 1


def read_case(*paths: str | os.PathLike[str], spacing_mm: Spacing | None = None, axes: str | None = None) -> Case:
    """Read one subject from its files.

    Parameters
    ----------
    *paths : path
        NIfTI, ITK (.nrrd, .mha, .gipl), TIFF, PNG, JPEG or BMP files, one per channel in the model's
        order, or one file with all of them.
    spacing_mm : tuple of float, optional
        Spacing (Z, Y, X) in mm to use instead of the spacing in the files.
    axes : str, optional
        The axes of TIFF files that name them wrongly, such as a stack whose depth is called time: "Z,Y,X".

    Returns
    -------
    Case
        Channels (C, Z, Y, X).

    Raises
    ------
    CaseError
        When a file is missing or unreadable, or the channels do not lie on one grid.
    SettingsError
        When `axes` do not fit a file, or a file is not TIFF.
    """
    if not paths:
        raise CaseError("no image given: name at least one file")
    case = stack_channels([_read_one(Path(path), axes) for path in paths])
    return case if spacing_mm is None else case.with_spacing(spacing_mm)


def read_labels(path: str | os.PathLike[str], case: Case) -> npt.NDArray[Any]:
    """Read labels (Z, Y, X), int32, for a case from a file.

    Raises `CaseError` if the file can't be read, holds other values than whole numbers, or has another grid.
    """
    labels = _read_one(Path(path))
    if labels.spacing_source is SpacingSource.ASSUMED:  # a format without spacing, such as PNG
        labels = replace(labels, spacing_mm=case.spacing_mm)
    if case.planar:  # because formats describe the third axis of a 2D image differently
        labels = replace(labels, affine=None)
    stack_channels([replace(case, channels=case.channels[:1]), labels])
    values = labels.channels
    if len(values) != 1 or (values % 1 != 0).any() or values.min() < 0 or values.max() > _LARGEST_LABEL:
        raise CaseError(f"{path} must hold labels: one channel of whole numbers from 0 to {_LARGEST_LABEL}")
    integers: npt.NDArray[np.int32] = labels.channels[0].astype(np.int32)
    return integers


def write_labels(path: str | os.PathLike[str], labels: npt.NDArray[Any], case: Case) -> Path:
    """Write labels (Z, Y, X), integers, on the grid of their case; return the path.

    An existing file is replaced only after the new one is complete. Raises `OutputError` if the ending is
    unknown, the format can't hold this grid, or the file can't be written.
    """
    path = Path(path)
    check_output(path, case)
    return _written(path, labels, case)


def write_fractions(path: str | os.PathLike[str], fractions: npt.NDArray[np.float32], case: Case) -> Path:
    """Write fractions (Z, Y, X), float32, on the grid of their case, as `write_labels` writes labels."""
    path = Path(path)
    check_fractions(path, case)
    return _written(path, fractions, case)


def check_fractions(path: Path, case: Case | None = None) -> None:
    """Raise `OutputError` now, like `check_output`, if fractions could not be written to `path`."""
    if _ending(path, FRACTION_ENDINGS) is None:
        raise OutputError(f"{path}: this format holds no fractions; use one of {', '.join(FRACTION_ENDINGS)}")
    check_output(path, case)


def write_array(path: Path, array: npt.NDArray[Any], case: Case) -> None:
    """Write a channel or labels (Z, Y, X) on the grid of their case, in place: a failure leaves an incomplete file.

    The format must be able to hold the type of the array. Raises `OSError` if the file can't be written.
    """
    _WRITERS[_ending(path, LABEL_ENDINGS) or ""](path, array, case)


def check_output(path: Path, case: Case | None = None) -> None:
    """Raise `OutputError` now, and not after a long run, if labels could not be written to `path`.

    With a `case`, also check its grid, because not every format can hold every grid.
    """
    ending = _ending(path, LABEL_ENDINGS)
    if ending is None:
        problem = "JPEG would change labels" if _ending(path, natural.LOSSY) else "unknown ending for labels"
        raise OutputError(f"{path}: {problem}; use one of {', '.join(LABEL_ENDINGS)}")
    check_place(path)
    if ending in _CHECKS:
        _CHECKS[ending](path, case)


def check_place(path: Path) -> None:
    """Raise `OutputError` if no file can be written to `path`. A missing folder is fine: writing creates it."""
    try:
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise OutputError(f"{folder} is not a folder; choose another place than {path}")
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name a file in it")
        if not os.access(folder, os.W_OK):
            raise OutputError(f"{folder} can't be written to; choose another folder")
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block ends without an error.

    It has the same folder, which is created if necessary, and the same ending. Raises `OutputError` if the
    file can't be written; `path` is then unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}") from error


def _umask() -> int:
    """The umask of the process, because temporary files are private and results need the usual permissions."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def without_ending(name: str) -> str:
    """The name of an image file without its ending."""
    ending = _ending(Path(name), tuple(_READERS))
    return name[: -len(ending)] if ending else name


def _written(path: Path, array: npt.NDArray[Any], case: Case) -> Path:
    write = _WRITERS[_ending(path, LABEL_ENDINGS) or ""]
    with replacing(path) as temporary:
        write(temporary, array, case)
    return path


def _read_one(path: Path, axes: str | None = None) -> Case:
    try:
        there = path.is_file()
    except OSError as error:  # no permission, a name too long
        raise CaseError(f"{path} can't be read: {error.strerror or error}") from error
    if not there:
        if path.is_dir():
            raise CaseError(f"{path} is a folder; name the files of one case, a file per channel")
        raise CaseError(f"{path} is not a file")
    ending = _ending(path, tuple(_READERS))
    if ending is None:
        raise CaseError(f"{path}: unknown image format; use one of {', '.join(_READERS)}")
    name = path.name[: -len(ending)]
    with quiet():
        if axes is None:
            return _READERS[ending](path, name)
        if ending not in tiff.ENDINGS:
            raise SettingsError(f"{path}: axes can be stated for TIFF files alone; this format states its own")
        return tiff.read_tiff(path, name, axes)


def _ending(path: Path, known: tuple[str, ...]) -> str | None:
    name = path.name.lower()
    return max((ending for ending in known if name.endswith(ending)), key=len, default=None)
