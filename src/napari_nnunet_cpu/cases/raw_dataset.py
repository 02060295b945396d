"""A folder that nnU-Net can train on: imagesTr, labelsTr and dataset.json."""

from __future__ import annotations

import json
import re
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases.case import Case, SpacingSource
from napari_nnunet_cpu.cases.dataset_json import DatasetJson, read_dataset_json
from napari_nnunet_cpu.cases.files import read_case, replacing, without_ending, write_array
from napari_nnunet_cpu.errors import CaseError, OutputError

# Types that channels keep in the file. All others become float32, because nnU-Net computes in it.
_FILE_DTYPES = {".nii.gz": ("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"), ".tif": ("u1", "u2", "f4")}
# ITK refuses axes with a cosine above about 1e-4 between them; below this limit nibabel gives the same arrays.
_RIGHT_ANGLE = 1e-5
_MAX_NAME = 50  # letters of up to four bytes, because a file name has 255 bytes, with number, channel and ending


class RawDataset:
    """A raw dataset in nnU-Net's layout; the first case that is added creates the folder.

    nnU-Net trains on the folder if it lies in nnUNet_raw under a name DatasetXXX_Name with a number of
    its own. Any other folder can be moved there later.

    Volumes are written as .nii.gz, and so are 2D images with a stated spacing. Other 2D images
    become .tif, which nnU-Net reads without a pixel size. An unknown spacing is 1 mm, as in nnU-Net.

    Raises `OutputError` if the folder is a file, or its dataset.json can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder} is not a folder; choose another one for the dataset")
        read_dataset_json(self._json)

    def add(
        self,
        case: Case,
        labels: npt.NDArray[Any],
        channel_names: Sequence[str],
        label_values: Mapping[str, int | list[int]],
        regions_class_order: Sequence[int] | None = None,
        name: str | None = None,
        *,
        reader: str | None = None,
    ) -> str:
        """Write a case and its labels (Z, Y, X), both or neither. Adding the same image again replaces its labels.

        `channel_names`, `label_values` and `regions_class_order` are as in dataset.json. `reader` is nnU-Net's reader
        for the model, which training on this dataset uses again. The case is stored under `name`, by default its own.

        Returns the identifier: the name without special characters, and a number if another image has the name.
        Raises `CaseError` if the labels do not fit the image, or the dataset has the image on another grid. Raises
        `SettingsError` if nnU-Net would refuse the names of the labels, and `OutputError` if the folder holds a
        different dataset, or can't be written.
        """
        # nnU-Net reads the spacing from the files, so they must hold the spacing that the user stated.
        case = case.seen_by("SimpleITKIO").on_grid_of_spacing()
        if len(channel_names) != len(case.channels):
            raise CaseError(f"{case.name} has {len(case.channels)} channels, but {list(channel_names)} are named")
        ending = _ending(case, reader)
        order = None if regions_class_order is None else tuple(regions_class_order)
        description = DatasetJson(tuple(channel_names), label_values, order, ending, _reader(case, reader, ending))
        stored = description.checked(labels, case.shape, name or case.name)
        found = read_dataset_json(self._json)
        description.document(found, 0, self._json)
        self._check_axes(case, ending)
        identifier, known = self._identifier(case, _safe(name or case.name), ending)
        arrays = {self._labels / f"{identifier}{ending}": stored}
        if not known:
            arrays |= {
                path: _storable(channel, ending)
                for path, channel in zip(self._image_files(identifier, case, ending), case.channels, strict=True)
            }
        try:
            for folder in (self._images, self._labels):
                folder.mkdir(parents=True, exist_ok=True)
            self._write(arrays, case, description, found)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"{self.folder}: {identifier} can't be saved: {error.strerror or error}") from error
        return identifier

    @property
    def _json(self) -> Path:
        return self.folder / "dataset.json"

    @property
    def _images(self) -> Path:
        return self.folder / "imagesTr"

    @property
    def _labels(self) -> Path:
        return self.folder / "labelsTr"

    def _image_files(self, identifier: str, case: Case, ending: str) -> list[Path]:
        return [self._images / f"{identifier}_{number:04}{ending}" for number in range(len(case.channels))]

    def _complete(self, ending: str, channels: int) -> tuple[str, ...]:
        images = {path.name for path in self._images.iterdir()} if self._images.is_dir() else set()
        labelled = sorted(path.name.removesuffix(ending) for path in self._labels.glob(f"*{ending}"))
        return tuple(
            name for name in labelled if all(f"{name}_{channel:04}{ending}" in images for channel in range(channels))
        )

    def _check_axes(self, case: Case, ending: str) -> None:
        """Raise `OutputError` if 2D and 3D images would be mixed, because nnU-Net can't train on both at once."""
        labelled = next(iter(sorted(self._labels.glob(f"*{ending}"))), None)
        if labelled is None or ending != ".nii.gz":
            return
        axes = 2 if case.planar else 3
        try:
            found = 2 if read_case(labelled).planar else 3
        except CaseError as error:
            raise OutputError(f"{error}; mend that file or choose another folder") from error
        if found != axes:
            raise OutputError(
                f"{self.folder} has images of {found} axes, but {case.name} has {axes}; choose another folder"
            )

    def _identifier(self, case: Case, name: str, ending: str) -> tuple[str, bool]:
        """The identifier of a case, and whether the dataset already holds its image."""
        number = 1
        while True:
            identifier = name if number == 1 else f"{name}_{number}"
            images = self._image_files(identifier, case, ending)
            there = [path.exists() for path in images]
            if not any(there) and not (self._labels / f"{identifier}{ending}").exists():
                return identifier, False
            if all(there):
                stored = _stored(images, case, ending)
                if stored is not None:
                    _check_grid(images[0], stored, case, ending)
                    return identifier, True
            number += 1

    def _write(
        self, arrays: Mapping[Path, npt.NDArray[Any]], case: Case, description: DatasetJson, found: Mapping[str, Any]
    ) -> None:
        """Write the files to a temporary folder, move them into the dataset, and then write dataset.json.

        They are not written in place, because nnU-Net takes every file in imagesTr for a case, even one
        that a crash left incomplete. Labels move first, because nnU-Net ignores labels without an image,
        but refuses to train with an image without labels.
        """
        moved: list[Path] = []
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=self.folder) as folder:
            written = [Path(folder) / f"{number}{description.file_ending}" for number in range(len(arrays))]
            for path, array in zip(written, arrays.values(), strict=True):
                write_array(path, array, case)
            try:
                for path, place in zip(written, arrays, strict=True):
                    new = not place.exists()
                    path.replace(place)
                    if new:
                        moved.append(place)
                cases = len(self._complete(description.file_ending, len(case.channels)))
                document = description.document(found, cases, self._json)
                if document != found:
                    with replacing(self._json) as temporary:
                        # ASCII, because nnU-Net opens the file in the encoding of the computer.
                        temporary.write_text(json.dumps(document, indent=4) + "\n", encoding="ascii")
            except BaseException:
                for place in reversed(moved):
                    place.unlink(missing_ok=True)
                raise


def _ending(case: Case, reader: str | None) -> str:
    """The file ending for a case: .nii.gz if nnU-Net needs its spacing, else .tif."""
    if not case.planar:
        return ".nii.gz"
    no_spacing = case.spacing_source is not SpacingSource.STATED if reader is None else reader == "NaturalImage2DIO"
    return ".tif" if no_spacing else ".nii.gz"


def _reader(case: Case, reader: str | None, ending: str) -> str:
    """The reader of nnU-Net that reads the written files as `reader` read the original."""
    if ending == ".tif":
        return "NaturalImage2DIO"
    if case.planar:
        return "SimpleITKIO"  # because the others read volumes only
    reorient = "WithReorient" if reader is not None and reader.endswith("WithReorient") else ""
    library = "Nibabel" if _is_sheared(case) or (reader or "").startswith("Nibabel") else "SimpleITK"
    return f"{library}IO{reorient}"


def _is_sheared(case: Case) -> bool:
    """Whether the axes are not at right angles, because ITK refuses such files."""
    products = case.to_world[:3, :3].T @ case.to_world[:3, :3]
    lengths = np.sqrt(np.diag(products))
    return bool((np.abs(products - np.diag(np.diag(products))) > _RIGHT_ANGLE * np.outer(lengths, lengths)).any())


def _storable(channel: npt.NDArray[Any], ending: str) -> npt.NDArray[Any]:
    """A channel (Z, Y, X) in a type that the file format can hold."""
    if channel.dtype.kind == "b":
        return channel.astype(np.uint8)
    return channel if channel.dtype.str[1:] in _FILE_DTYPES[ending] else channel.astype(np.float32)


def _stored(images: Sequence[Path], case: Case, ending: str) -> Case | None:
    """The first channel as stored, if the files hold the same intensities as the case; else None."""
    first = None
    for path, channel in zip(images, case.channels, strict=True):
        stored = read_case(path)
        if not np.array_equal(stored.channels, _storable(channel, ending)[None]):
            return None
        first = first or stored
    return first


def _check_grid(path: Path, stored: Case, case: Case, ending: str) -> None:
    """Raise `CaseError` if the dataset holds the image on another grid, where the labels would be misplaced."""
    if ending != ".tif" and not np.allclose(stored.to_world, case.to_world, rtol=1e-4, atol=1e-3):
        raise CaseError(
            f"{case.name} is in the dataset with spacing {stored.spacing_mm} mm and affine "
            f"{stored.to_world.tolist()}, now it has {case.spacing_mm} mm and {case.to_world.tolist()}; "
            f"remove {path} and its labels first, or give the case another name"
        )


def _safe(name: str) -> str:
    """A name without characters that have a meaning for a file system or nnU-Net."""
    # nnU-Net puts the number of the channel at the end of image names.
    stem = without_ending(unicodedata.normalize("NFC", name)).removesuffix("_0000")
    return re.sub(r"[^\w-]+", "_", stem)[:_MAX_NAME].strip("_-") or "case"
