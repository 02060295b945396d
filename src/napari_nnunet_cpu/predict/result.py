"""What a run gives: labels, their names, and how they were made."""

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

from napari_nnunet_cpu.cases import Case, write_fractions, write_labels
from napari_nnunet_cpu.cases.files import check_place, replacing
from napari_nnunet_cpu.errors import OutputError
from napari_nnunet_cpu.prepare.geometry import AxisOrder
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
        Name of every value, background included.
    provenance : dict
        Model, settings, versions, times: plain values, ready for JSON.
    case : Case
        What was segmented.
    reader_order : AxisOrder
        From the case's axes to those in which nnU-Net's reader would have given the image.
    probabilities : numpy.ndarray or None
        Shape (heads, Z, Y, X) on the grid of the case, float32, where the settings asked for them:
        of every label in order of its value, or of every region in order of dataset.json.
    first_stage : Result or None
        Of a cascade: what its first stage gave. Its labels can be given to further runs.
    uncertainty : numpy.ndarray or None
        Where the settings asked for it: the uncertainty of each voxel, uncalibrated; shape of the case (Z, Y, X),
        float32 in [0, 1], 0 where cropping took something away.
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
            When the ending is unknown or the file can't be written.
        """
        return write_labels(path, self.labels, self.case)

    def save_uncertainty(self, path: str | os.PathLike[str]) -> Path:
        """Write the uncertainty on the grid of the case, as float32: NIfTI, NRRD, MetaImage or TIFF.

        Raises
        ------
        OutputError
            When there is none, the ending is unknown or holds no fractions, or the file can't be written.
        """
        if self.uncertainty is None:
            raise OutputError(f'{path}: there is no uncertainty to write; run with Settings(uncertainty="margin")')
        return write_fractions(path, self.uncertainty, self.case)

    def save_probabilities(self, path: str | os.PathLike[str]) -> Path:
        """Write the probabilities as nnU-Net does: "probabilities" (heads, Z, Y, X) in an .npz file.

        Z, Y, X are those of nnU-Net's reader: the file's, or (S, A, R) for a model whose reader
        turns images to RAS first.

        Raises
        ------
        OutputError
            When there are none, the ending is another one, or the file can't be written.
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
        # As numpy.savez_compressed, but a head at a time: they may be more than fit into memory.
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
        """Voxels and millilitres of every label but background, by name.

        A 2D image has no volume: there, and where the spacing is not known, "ml" is NaN.
        """
        voxel_ml = self.case.voxel_ml
        counts = np.bincount(self.labels.ravel(), minlength=max(self.label_names) + 1)
        return {
            name: {"label": value, "voxels": int(counts[value]), "ml": float(counts[value]) * voxel_ml}
            for value, name in self.label_names.items()
            if value
        }


def check_probabilities(path: Path) -> None:
    """Raise `OutputError` now, not after a long run, when probabilities could not be written to `path`."""
    if path.suffix.lower() != PROBABILITIES_ENDING:
        raise OutputError(f"{path}: probabilities are written as {PROBABILITIES_ENDING}; give the file that ending")
    check_place(path)


def provenance(
    case: Case,
    settings: Settings,
    runs: Sequence[dict[str, Any]],
    postprocessing: Sequence[Sequence[int]] | None = None,
) -> dict[str, Any]:
    """How labels were made: plain values, ready for JSON.

    Parameters
    ----------
    case : Case
        What was segmented.
    settings : Settings
        How.
    runs : sequence of dict
        Records of the runs, in the order they were made. Tiles and seconds are their sums.
    postprocessing : sequence, optional
        Values of which only the largest component was kept, step by step; None where not asked for.
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
