"""The result of a run: labels, their names, and their provenance."""

from __future__ import annotations

import datetime
import os
import platform
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases import Case, check_place, replacing, write_fractions, write_labels
from napari_nnunet_cpu.errors import OutputError
from napari_nnunet_cpu.prepare import AxisOrder
from napari_nnunet_cpu.resources import installed_version
from napari_nnunet_cpu.settings import Settings

_VERSIONS_OF = ("napari-nnunet-cpu", "torch", "openvino", "nncf", "numpy", "scipy", "scikit-image")
PROBABILITIES_ENDING = ".npz"


@dataclass(frozen=True, eq=False)
class Result:
    """Labels of one case.

    Attributes
    ----------
    labels : numpy.ndarray
        Shape of the case (Z, Y, X), uint8 or uint16.
    label_names : dict of int to str
        Name of every label value, background included.
    provenance : dict
        Model, settings, versions and times as plain values for JSON.
    case : Case
        The segmented case.
    reader_order : AxisOrder
        From the axes of the case to the axes of the array that nnU-Net's reader returns.
    probabilities : numpy.ndarray or None
        Shape (heads, Z, Y, X) on the grid of the case, float32, if the settings ask for them. Heads are labels in
        order of their values, or regions in order of dataset.json.
    first_stage : Result or None
        For a cascade: the result of its first stage. Its labels can be given to further runs.
    uncertainty : numpy.ndarray or None
        The uncalibrated uncertainty of each voxel, if the settings ask for it: shape of the case (Z, Y, X), float32 in
        [0, 1], 0 outside the cropped image.
    """

    labels: npt.NDArray[Any]
    label_names: dict[int, str]
    provenance: dict[str, Any]
    case: Case
    reader_order: AxisOrder = AxisOrder()
    probabilities: npt.NDArray[np.float32] | None = None
    first_stage: Result | None = None
    uncertainty: npt.NDArray[np.float32] | None = None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the labels on the grid of the case: NIfTI, NRRD, MetaImage, TIFF, or PNG of a 2D image.

        Raises
        ------
        OutputError
            If the ending is unknown or the file can't be written.
        """
        return write_labels(path, self.labels, self.case)

    def save_uncertainty(self, path: str | os.PathLike[str]) -> Path:
        """Write the uncertainty on the grid of the case, as float32: NIfTI, NRRD, MetaImage or TIFF.

        Raises
        ------
        OutputError
            If there is no uncertainty, the format is unknown or can't store fractions, or the file can't be written.
        """
        if self.uncertainty is None:
            raise OutputError(f'{path}: there is no uncertainty to write; run with Settings(uncertainty="margin")')
        return write_fractions(path, self.uncertainty, self.case)

    def save_probabilities(self, path: str | os.PathLike[str]) -> Path:
        """Write the probabilities as nnU-Net does: "probabilities" (heads, Z, Y, X) in an .npz file.

        The axes Z, Y, X are in file order, or (S, A, R) for a model whose reader turns images to RAS first.

        Raises
        ------
        OutputError
            If there are no probabilities, the ending is not .npz, or the file can't be written.
        """
        path = Path(path)
        check_probabilities(path)
        if self.probabilities is None:
            raise OutputError(f"{path}: there are no probabilities to write; run with Settings(probabilities=True)")
        heads = [self.reader_order.apply(head) for head in self.probabilities]
        header = {
            "descr": np.lib.format.dtype_to_descr(self.probabilities.dtype),
            "fortran_order": False,
            "shape": (len(heads), *heads[0].shape),
        }
        # Like numpy.savez_compressed, but head by head, because the heads together may exceed the memory.
        with (
            replacing(path) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("probabilities.npy", "w", force_zip64=True) as file,
        ):
            np.lib.format.write_array_header_1_0(file, header)
            for head in heads:
                file.write(np.ascontiguousarray(head).data)
        return path

    def volumes(self) -> dict[str, dict[str, float]]:
        """Voxels and millilitres of every label except background, by name.

        "ml" is NaN for 2D images, which have no volume, and for an unknown spacing.
        """
        voxel_ml = self.case.voxel_ml
        counts = np.bincount(self.labels.ravel(), minlength=max(self.label_names) + 1)
        return {
            name: {"label": value, "voxels": int(counts[value]), "ml": float(counts[value]) * voxel_ml}
            for value, name in self.label_names.items()
            if value
        }


def check_probabilities(path: Path) -> None:
    """Raise `OutputError` before a long run if probabilities can't be written to `path`."""
    if path.suffix.lower() != PROBABILITIES_ENDING:
        raise OutputError(f"{path}: probabilities are written as {PROBABILITIES_ENDING}; use this ending")
    check_place(path)


def provenance(
    case: Case,
    settings: Settings,
    runs: Sequence[dict[str, Any]],
    postprocessing: Sequence[Sequence[int]] | None = None,
) -> dict[str, Any]:
    """The provenance of labels as plain values for JSON.

    `runs` are the records of the runs in order, whose tiles and seconds are added up. `postprocessing` lists label
    values, step by step: each step keeps only their largest component. None without postprocessing.
    """
    seconds: Counter[str] = Counter()
    for run in runs:
        seconds.update(run["seconds"])
    return {
        "image": {
            "name": case.name,
            "shape": list(case.shape),
            "spacing_mm": list(case.spacing_mm),
            "spacing_known": case.spacing_known,
            "notes": list(case.notes),
        },
        "settings": settings.as_dict(),
        "runs": list(runs),
        "tiles": sum(run["tiles"] for run in runs),
        "tiles_done": sum(run["tiles_done"] for run in runs),
        "passes": sum(run["tiles_done"] * run["passes_per_tile"] for run in runs),
        "seconds": {name: round(total, 3) for name, total in seconds.items()},
        "postprocessing": None if postprocessing is None else [list(values) for values in postprocessing],
        "versions": {"python": platform.python_version()} | {name: installed_version(name) for name in _VERSIONS_OF},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
