"""Labels of the exact preset against those of nnunetv2 2.8.1, live."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fidelity import Agreement
from oracle import Oracle
from subjects import SUBJECTS, Subject

from napari_nnunet_cpu import segment

REQUIRED = 0.9999


@pytest.mark.timeout(1800)  # of two nnU-Nets beside it
@pytest.mark.parametrize("subject", SUBJECTS)
def test_labels_are_nnunets(
    subject: Subject,
    folders: dict[Subject, Path],
    oracles: list[Oracle],
    agreements: list[Agreement],
    tmp_path: Path,
) -> None:
    folder = folders[subject]
    result = segment(subject.open_case(folder), subject.open_model(folder), subject.settings)
    labels = result.labels
    for oracle in oracles:
        oracle.wait_for(folder.name)
    float32, shipped = (subject.reference(folder, precision) for precision in ("float32", "float16"))

    assert labels.shape == float32.shape == shipped.shape
    agreement = Agreement(
        subject.name,
        labels.size,
        int((labels != float32).sum()),
        int((labels != shipped).sum()),
        int((float32 != shipped).sum()),
    )
    agreements.append(agreement)
    assert np.bincount(float32.ravel()).max() < 0.97 * labels.size, "one label nearly everywhere proves nothing"
    assert agreement.from_float32 <= (1 - REQUIRED) * labels.size
    assert agreement.from_shipped <= agreement.between_references

    if subject.reads_file:
        ours = nib.load(result.save(tmp_path / "labels.nii.gz"))
        theirs = nib.load(folder / "float32.nii.gz")
        assert ours.shape == theirs.shape
        assert (np.asarray(ours.dataobj) != np.asarray(theirs.dataobj)).sum() == agreement.from_float32
        plane = slice(2 if subject.planar else 4)  # SimpleITK's 2d files know no third axis
        np.testing.assert_allclose(ours.affine[plane, plane], theirs.affine[plane, plane], atol=1e-4)
