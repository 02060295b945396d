"""The dataset.json of a raw nnU-Net dataset: its channels, labels and file format."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.boxes import Triple
from napari_nnunet_cpu.errors import CaseError, OutputError, SettingsError

# nnU-Net's reader if dataset.json names none (imageio/reader_writer_registry.py).
_DEFAULT_READER = {".nii.gz": "SimpleITKIO", ".tif": "NaturalImage2DIO"}
_READER_KEY = "overwrite_image_reader_writer"
_LARGEST_LABEL = 2**16 - 1

_SHORT = reprlib.Repr()
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = 12
_SHORT.maxstring = _SHORT.maxother = 60


@dataclass(frozen=True)
class DatasetJson:
    """The description of a dataset that nnU-Net trains with.

    Raises `SettingsError` if nnU-Net would refuse the labels.
    """

    channel_names: tuple[str, ...]  # in the order of the channels; nnU-Net chooses the normalization by them
    labels: Mapping[str, int | list[int]]  # name to value, or to the values of a region
    regions_class_order: tuple[int, ...] | None  # the label that each region paints, as in `labels`
    file_ending: str  # of all image and label files
    reader: str  # nnU-Net's reader for these files

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
        """All valid label values, in ascending order."""
        return sorted({value for named in self.labels.values() for value in _listed(named)})

    @property
    def has_regions(self) -> bool:
        """Whether any name stands for several values."""
        return any(len(_listed(named)) > 1 for named in self.labels.values())

    def checked(self, labels: npt.NDArray[Any], shape: Triple, name: str) -> npt.NDArray[Any]:
        """Labels (Z, Y, X) as 8-bit integers, or 16-bit if their values need it.

        Raises `CaseError` if they are not integers, have another shape than the image, or a value without a name.
        """
        if labels.dtype.kind not in "biu":
            raise CaseError(f"{name}: labels must be integers, found dtype {labels.dtype}")
        if labels.shape != shape:
            raise CaseError(f"{name}: labels have shape {labels.shape}, the image (Z, Y, X) has {shape}")
        found, counts = np.unique(labels, return_counts=True)
        unnamed = ~np.isin(found, self.values)
        if unnamed.any():
            values = ", ".join(str(value) for value in found[unnamed][:12])
            named = ", ".join(f"{called} {_SHORT.repr(value)}" for called, value in list(self.labels.items())[:12])
            raise CaseError(
                f"{name}: {counts[unnamed].sum()} voxels have label {values}, which has no name in this dataset; "
                f"paint them as one of: {named}"
            )
        return labels.astype(np.uint8 if self.values[-1] < 255 else np.uint16)

    def document(self, found: Mapping[str, Any], cases: int, where: Path) -> dict[str, Any]:
        """The content of dataset.json, including further keys of `found`.

        `found` is the present content, empty for a new file, and `cases` the number of cases. Raises
        `OutputError` if `found` describes a different dataset, and names the first difference.
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
                # The order of the names matters, because nnU-Net paints regions in this order.
                if theirs != ours or (self.has_regions and list(theirs) != list(ours)):
                    raise _differs(where, key, theirs, ours)
        reader = self._agreed_reader(found, where)
        if reader != _DEFAULT_READER[self.file_ending]:
            document[_READER_KEY] = reader
        return {**found, **document, "numTraining": cases}

    def _agreed_reader(self, found: Mapping[str, Any], where: Path) -> str:
        """A reader for the old and the new files: nibabel's gives the same arrays as ITK's, for more files."""
        if not found:
            return self.reader
        stated = found.get(_READER_KEY, "None")
        theirs = _DEFAULT_READER[self.file_ending] if stated == "None" else str(stated)
        suffixes = {name.removeprefix("SimpleITK").removeprefix("Nibabel") for name in (theirs, self.reader)}
        if len(suffixes) > 1:
            raise _differs(where, _READER_KEY, theirs, self.reader)
        return theirs if theirs.startswith("Nibabel") else self.reader

    @property
    def _named(self) -> list[int]:
        """All label values except that of "ignore", in ascending order."""
        return sorted(
            {value for name, named in self.labels.items() if name != "ignore" for value in _listed(named)},
        )

    @property
    def _regions(self) -> int:
        """The number of names other than background and "ignore"."""
        return sum(set(_listed(named)) != {0} for name, named in self.labels.items() if name != "ignore")


def read_dataset_json(path: Path) -> dict[str, Any]:
    """The content of a dataset.json; empty if the file does not exist.

    Raises `OutputError` if it can't be read, or lists its cases explicitly, so that new files would be ignored.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"{path} can't be read as JSON: {error}; choose another folder") from error
    if not isinstance(document, dict) or (path.exists() and not document):
        raise OutputError(f"{path} does not describe a dataset; choose another folder")
    if "dataset" in document:
        raise OutputError(f"{path} lists its cases itself, so nnU-Net would ignore new files; choose another folder")
    return document


def _listed(named: int | list[int]) -> list[int]:
    return [named] if isinstance(named, int) else list(named)


def _differs(where: Path, key: str, theirs: Any, ours: Any) -> OutputError:
    return OutputError(
        f"{where} has another {key}, {_SHORT.repr(theirs)} instead of {_SHORT.repr(ours)}; choose another folder"
    )
