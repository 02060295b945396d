"""Labels and probabilities of the exact preset against those of nnunetv2 2.8.1, live."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from fidelity import Agreement
from images import ITK, read_labels
from oracle import Oracle
from subject import Subject
from subjects import SUBJECTS

from napari_nnunet_cpu import segment
from napari_nnunet_cpu.cases import LABEL_ENDINGS

REQUIRED = 0.9999
PROBABILITY_ERROR = 2e-3


@pytest.mark.timeout(1800)  # of two nnU-Nets beside it
@pytest.mark.parametrize("subject", SUBJECTS)
def test_labels_are_nnunets(
    subject: Subject,
    folders: dict[Subject, Path],
    oracles: list[Oracle],
    agreements: list[Agreement],
    engine: str,
    tmp_path: Path,
) -> None:
    folder = folders[subject]
    settings = replace(subject.settings, engine=engine)
    result = segment(subject.open_case(folder), subject.open_model(folder), settings)
    expected = "openvino" if engine == "auto" else engine
    assert {run["engine"] for run in result.provenance["runs"]} == {expected}
    labels = result.labels
    with np.load(result.save_probabilities(tmp_path / "probabilities.npz")) as archive:
        probabilities = archive["probabilities"]
    for oracle in oracles:
        oracle.wait_for(folder.name)
    float32, shipped = (subject.reference(folder, precision) for precision in ("float32", "float16"))
    reference = subject.reference_probabilities(folder)

    assert labels.shape == float32.shape == shipped.shape
    assert probabilities.shape == reference.shape
    agreement = Agreement(
        subject.name,
        labels.size,
        int((labels != float32).sum()),
        int((labels != shipped).sum()),
        int((float32 != shipped).sum()),
        float(np.abs(probabilities - reference).max()),
    )
    agreements.append(agreement)
    assert np.bincount(float32.ravel()).max() < 0.97 * labels.size, "one label nearly everywhere proves nothing"
    assert agreement.from_float32 <= (1 - REQUIRED) * labels.size
    assert agreement.from_shipped <= agreement.between_references
    assert agreement.probability_error <= PROBABILITY_ERROR
    if len(result.label_names) == len(probabilities) and not subject.postprocess:  # no regions: the largest one wins
        assert (result.probabilities.argmax(axis=0) != labels).sum() <= (1 - REQUIRED) * labels.size

    if subject.label_ending in LABEL_ENDINGS:
        ours = result.save(tmp_path / f"labels{subject.label_ending}")
        assert (read_labels(ours) != float32).sum() == agreement.from_float32
        if subject.label_ending in ITK:
            same_place(ours, folder / f"float32{subject.label_ending}")


def same_place(ours: Path, theirs: Path) -> None:
    one, other = sitk.ReadImage(str(ours)), sitk.ReadImage(str(theirs))
    assert one.GetSize() == other.GetSize()
    for what in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(one, what)(), getattr(other, what)(), atol=1e-4)
