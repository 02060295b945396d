"""Labels and probabilities of the exact preset against those of nnunetv2 2.8.1, live."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import npe2
import numpy as np
import pytest
import SimpleITK as sitk
from fidelity import Agreement
from images import ITK, read_labels
from napari.layers import Image
from napari.types import FullLayerData
from oracle import Oracle
from subject import Subject
from subjects import NOT_BY_NIBABEL, SUBJECTS

from napari_nnunet_cpu import Case, Result, segment
from napari_nnunet_cpu.cases import LABEL_ENDINGS
from napari_nnunet_cpu.viewer.image.layers import image_from_layers

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
            same_place_for_itk(ours, subject.files(folder)[0])
        if subject.contradiction is not None:
            image = subject.files(folder)[0]
            same_place_for_nibabel(ours, image)
            if subject.contradiction not in NOT_BY_NIBABEL:
                same_in_napari(ours, image, labels, lambda case: segment(case, subject.open_model(folder), settings))


def same_place_for_itk(ours: Path, image: Path) -> None:
    one, other = sitk.ReadImage(str(ours)), sitk.ReadImage(str(image))
    assert one.GetSize() == other.GetSize()
    for what in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(one, what)(), getattr(other, what)(), atol=1e-4)


def same_place_for_nibabel(ours: Path, image: Path) -> None:
    """Field by field: nibabel itself refuses some of these headers."""
    one, other = (nib.Nifti1Header(gzip.decompress(path.read_bytes())[:348], check=False) for path in (ours, image))
    for field in ("pixdim", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_d", "qoffset_x"):
        first, second = one[field], other[field]
        np.testing.assert_array_equal(np.atleast_1d(first)[:4], np.atleast_1d(second)[:4])


def same_in_napari(ours: Path, image: Path, labels: np.ndarray, segmented: Callable[[Case], Result]) -> None:
    """As a layer the file gives the same labels, and theirs lies on it."""
    layer, labels_layer = (Image(*data[:1], **data[1]) for data in map(read_layer, (image, ours)))
    snapshot = image_from_layers([layer])
    np.testing.assert_array_equal(segmented(snapshot.case()).labels, labels)
    np.testing.assert_array_equal(snapshot.to_layer(labels), labels_layer.data)
    for corner in ((0, 0, 0), np.subtract(labels_layer.data.shape, 1)):
        np.testing.assert_array_equal(labels_layer.data_to_world(corner), layer.data_to_world(corner))


def read_layer(path: Path) -> FullLayerData:
    npe2.PluginManager.instance().discover()
    (data,) = npe2.read([str(path)], stack=False, plugin_name="napari-nifti")
    return data
