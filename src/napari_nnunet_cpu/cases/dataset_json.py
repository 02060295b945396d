"""dataset.json of a raw nnU-Net dataset: what its channels, labels and files are."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.errors import CaseError, OutputError, SettingsError

# The reader that nnU-Net takes where dataset.json names none (imageio/reader_writer_registry.py).
_DEFAULT_READER = {".nii.gz": "SimpleITKIO", ".tif": "NaturalImage2DIO"}
_READER_KEY = "overwrite_image_reader_writer"
_LARGEST_LABEL = 2**16 - 1

_SHORT = reprlib.Repr()
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = 12
_SHORT.maxstring = _SHORT.maxother = 60


@dataclass(frozen=True)
class DatasetJson:
    """What nnU-Net has to know of a dataset before it can train on it.

    Attributes
    ----------
    channel_names : tuple of str
        Of the images, in order. nnU-Net chooses the normalization by them.
    labels : dict
        Name to value, or to the list of values that a region unites. "ignore" marks voxels that
        training leaves out.
    regions_class_order : tuple of int or None
        For regions: the value that each paints, in the order of `labels`.
    file_ending : str
        Of all images and labels.
    reader : str
        Which of nnU-Net's readers reads them.

    Raises
    ------
    SettingsError
        When nnU-Net would refuse these labels.
    """

    channel_names: tuple[str, ...]
    labels: Mapping[str, int | list[int]]
    regions_class_order: tuple[int, ...] | None
    file_ending: str
    reader: str

    def __post_init__(self) -> None:
        if self.labels.get("background") != 0:
            found = self.labels.get("background", "nothing")
            raise SettingsError(f'labels must name "background" as 0, found {found}')
        values = self.values
        if values != list(range(len(values))) or values[-1] > _LARGEST_LABEL:
            raise SettingsError(
                f"nnU-Net trains on labels 0, 1, 2 and so on without gaps, found {_SHORT.repr(values)}; renumber them"
            )
        if "ignore" in self.labels and (self.labels["ignore"] != values[-1] or self._named[-1] == values[-1]):
            raise SettingsError(
                f'"ignore" must be the highest label, a value of its own, found {self.labels["ignore"]} '
                f"in {_SHORT.repr(values)}"
            )
        if self.has_regions and len(self.regions_class_order or ()) != self._regions:
            raise SettingsError(
                f"{self._regions} regions need a regions_class_order of as many values, "
                f"found {_SHORT.repr(self.regions_class_order)}"
            )

    @property
    def values(self) -> list[int]:
        """Every value that labels may have, ascending."""
        return sorted({value for named in self.labels.values() for value in _listed(named)})

    @property
    def has_regions(self) -> bool:
        """Whether a name stands for several values."""
        return any(len(_listed(named)) > 1 for named in self.labels.values())

    def checked(self, labels: npt.NDArray[Any], shape: tuple[int, int, int], name: str) -> npt.NDArray[Any]:
        """Labels (Z, Y, X) in the type that they are stored in: 8 bits, or 16 where they are needed.

        Raises
        ------
        CaseError
            When they are no integers, have another shape, or a value that has no name.
        """
        if labels.dtype.kind not in "biu":
            raise CaseError(f"{name}: labels must be integers, found dtype {labels.dtype}")
        if labels.shape != shape:
            raise CaseError(f"{name}: labels have shape {labels.shape}, the image (Z, Y, X) has {shape}")
        found, counts = np.unique(labels, return_counts=True)
        unnamed = ~np.isin(found, self.values)
        if unnamed.any():
            what = ", ".join(str(value) for value in found[unnamed][:12])
            named = ", ".join(f"{called} {_SHORT.repr(value)}" for called, value in list(self.labels.items())[:12])
            raise CaseError(
                f"{name}: {counts[unnamed].sum()} voxels have label {what}, which has no name in this dataset; "
                f"paint them as one of: {named}"
            )
        return labels.astype(np.uint8 if self.values[-1] < 255 else np.uint16)

    def document(self, found: Mapping[str, Any], cases: int, where: Path) -> dict[str, Any]:
        """What dataset.json must hold, with what else is in it already.

        Parameters
        ----------
        found : mapping
            What it holds now; empty for a new one.
        cases : int
            How many the dataset has.
        where : Path
            The file, for messages.

        Raises
        ------
        OutputError
            When the file is that of another dataset; the message says in what they differ.
        """
        document: dict[str, Any] = {
            "channel_names": {str(number): name for number, name in enumerate(self.channel_names)},
            "labels": {name: value if isinstance(value, int) else list(value) for name, value in self.labels.items()},
            "file_ending": self.file_ending,
        }
        if self.has_regions:
            document["regions_class_order"] = list(self.regions_class_order or ())
        if found:
            for key, ours in document.items():
                theirs = found.get(key)
                # Regions are painted in the order of their names.
                if theirs != ours or (self.has_regions and list(theirs) != list(ours)):
                    raise _differs(where, key, theirs, ours)
        reader = self._agreed_reader(found, where)
        if reader != _DEFAULT_READER[self.file_ending]:
            document[_READER_KEY] = reader
        return {**found, **document, "numTraining": cases}

    def _agreed_reader(self, found: Mapping[str, Any], where: Path) -> str:
        """The reader for what is there and what comes: nibabel's reads whatever ITK's does, to the same arrays."""
        if not found:
            return self.reader
        stated = found.get(_READER_KEY, "None")
        theirs = _DEFAULT_READER[self.file_ending] if stated == "None" else str(stated)
        turns = {name.removeprefix("SimpleITK").removeprefix("Nibabel") for name in (theirs, self.reader)}
        if len(turns) > 1:
            raise _differs(where, _READER_KEY, theirs, self.reader)
        return theirs if theirs.startswith("Nibabel") else self.reader

    @property
    def _named(self) -> list[int]:
        """All values but that of "ignore", ascending."""
        return sorted(
            {value for name, named in self.labels.items() if name != "ignore" for value in _listed(named)},
        )

    @property
    def _regions(self) -> int:
        """How many names are neither background nor "ignore"."""
        return sum(set(_listed(named)) != {0} for name, named in self.labels.items() if name != "ignore")


def read_dataset_json(path: Path) -> dict[str, Any]:
    """What dataset.json holds; nothing where there is none.

    Raises
    ------
    OutputError
        When it can't be read, or lists its cases by itself, so that files alone would add none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"{path} can't be read as JSON: {error}; choose another folder") from error
    if not isinstance(document, dict) or (path.exists() and not document):
        raise OutputError(f"{path} does not describe a dataset; choose another folder")
    if "dataset" in document:
        raise OutputError(f'{path} lists its cases under "dataset", wherever they are; choose another folder')
    return document


def _listed(named: int | list[int]) -> list[int]:
    return [named] if isinstance(named, int) else list(named)


def _differs(where: Path, key: str, theirs: Any, ours: Any) -> OutputError:
    return OutputError(
        f"{where} has another {key}, {_SHORT.repr(theirs)} instead of {_SHORT.repr(ours)}; choose another folder"
    )
