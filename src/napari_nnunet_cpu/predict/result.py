"""What a run gives: labels, their names, and how they were made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases import Case, write_labels


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
    """

    labels: npt.NDArray[Any]
    label_names: dict[int, str]
    provenance: dict[str, Any]
    case: Case

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the labels as NIfTI or TIFF, on the grid of the case.

        Raises
        ------
        OutputError
            When the ending is unknown or the file can't be written.
        """
        return write_labels(path, self.labels, self.case)

    def volumes(self) -> dict[str, dict[str, float]]:
        """Voxels and millilitres of every label but background, by name.

        A 2D image has no volume: there, and where the spacing is not known, "ml" is NaN.
        """
        known = self.case.spacing_known and not self.case.planar
        voxel_ml = prod(self.case.spacing_mm) / 1000 if known else float("nan")
        counts = np.bincount(self.labels.ravel(), minlength=max(self.label_names) + 1)
        return {
            name: {"label": value, "voxels": int(counts[value]), "ml": float(counts[value]) * voxel_ml}
            for value, name in self.label_names.items()
            if value
        }
