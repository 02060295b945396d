"""The two ways to read the geometry in a NIfTI header, against the libraries that read it so."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from nifti_headers import NO_LENGTHS, file_with, headers

from napari_nnunet_cpu import read_case
from napari_nnunet_cpu.cases import Case, write_labels
from napari_nnunet_cpu.cases.nifti_space import NiftiSpace

pytestmark = pytest.mark.slow

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
few = settings(many, max_examples=60)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Headers that contradict themselves are what this is about; both libraries say so on stderr."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)


def itk_frame(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Spacing (x, y, z) and affine as ITK reads them; None where it refuses."""
    try:
        image = sitk.ReadImage(path)
    except RuntimeError:
        return None
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return np.array(image.GetSpacing()), LPS @ lps


def close(affine: np.ndarray, expected: np.ndarray) -> None:
    """Equal to the 32 bits of a header, in every corner of a small image."""
    np.testing.assert_allclose(affine, expected, rtol=1e-5, atol=1e-4 * np.abs(expected[:3, :3]).max())


@many
@given(headers())
def test_itk_sees_it_so(tmp_path: Path, header: nib.Nifti1Header) -> None:
    theirs = itk_frame(file_with(header, tmp_path / "a.nii"))
    assume(theirs is not None)
    frame = NiftiSpace(header).itk
    np.testing.assert_allclose(frame.spacing[::-1], theirs[0], rtol=1e-6)
    close(frame.affine, theirs[1])


@few
@given(headers(), st.sampled_from([(-1, 1, 1), (1, -1, 1), (-1, -1, 1), (-1, 1, -1)]))
def test_itk_sees_two_forms_that_are_flipped_so(tmp_path: Path, header: nib.Nifti1Header, flips: tuple) -> None:
    """ITK compares singular vectors, whose signs decide; along the world's axes they are not left to rounding."""
    header.structarr["pixdim"][1:4] = (0.5, 0.75, 2.0)
    header.set_qform(np.diag([0.5, 0.75, 2.0, 1.0]), 2)
    header.set_sform(np.diag([0.5, 0.75, 2.0, 1.0]) * [*flips, 1], 2)
    theirs = itk_frame(file_with(header, tmp_path / "a.nii"))
    close(NiftiSpace(header).itk.affine, theirs[1])


@many
@given(headers())
def test_nibabel_sees_it_so(tmp_path: Path, header: nib.Nifti1Header) -> None:
    image = nib.load(file_with(header, tmp_path / "a.nii"))
    space = NiftiSpace(header)
    frame = space.seen_by("NibabelIO")
    np.testing.assert_allclose(frame.spacing[::-1], image.header.get_zooms(), rtol=1e-6)
    singular = abs(np.linalg.det(image.affine)) < 1e-9
    assert (frame.affine is None) == singular
    if not singular:
        close(frame.affine, image.affine)
        turned = image.as_reoriented(nib.io_orientation(image.affine))
        zooms = np.array(turned.header.get_zooms())
        worlds = nib.io_orientation(image.affine)[:, 0].astype(int)  # of the file's x, y, z
        spacing = space.seen_by("NibabelIOWithReorient").spacing[::-1]
        np.testing.assert_allclose(spacing, zooms[worlds], rtol=1e-5)


@few
@given(headers(), st.lists(st.tuples(st.integers(1, 3), NO_LENGTHS), min_size=1, max_size=3))
def test_a_length_that_is_none_counts_as_one(tmp_path: Path, header: nib.Nifti1Header, wrong: list) -> None:
    for axis, length in wrong:
        header.structarr["pixdim"][axis] = length
    path = file_with(header, tmp_path / "a.nii")
    theirs = itk_frame(path)
    assume(theirs is not None)
    case = read_case(path)
    np.testing.assert_allclose(case.spacing_mm[::-1], theirs[0], rtol=1e-6)
    assert not case.spacing_known
    assert np.isnan(case.voxel_ml)
    assert read_case(path, spacing_mm=(3, 2, 1)).spacing_mm == (3, 2, 1)


@few
@given(headers(), st.sampled_from(["quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x", "srow_z"]))
def test_numbers_of_a_form_that_is_not_used_do_not_matter(tmp_path: Path, header: nib.Nifti1Header, field: str) -> None:
    header.structarr["qform_code" if field.startswith("q") else "sform_code"] = 0
    sound = NiftiSpace(header)
    header.structarr[field] = np.nan
    frame = NiftiSpace(header)
    for reader in ("SimpleITKIO", "NibabelIO"):
        assert frame.seen_by(reader).spacing == sound.seen_by(reader).spacing
        ours, theirs = frame.seen_by(reader).affine, sound.seen_by(reader).affine
        assert (ours is None) == (theirs is None)
        assert ours is None or np.array_equal(ours, theirs)


@pytest.mark.parametrize("too_long", [4e-7, 1e-3])
def test_a_quaternion_that_is_too_long_keeps_its_direction(tmp_path: Path, too_long: float) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((3, 4, 5))
    header.set_data_dtype(np.int16)
    header.set_qform(np.diag([-1.0, -2.0, 3.0, 1.0]), 1)
    for letter in "bcd":
        header.structarr[f"quatern_{letter}"] *= 1 + too_long
    path = file_with(header, tmp_path / "a.nii")
    with pytest.raises(ValueError, match="w2 should be positive"):
        nib.load(path)
    close(read_case(path).affine, itk_frame(path)[1])
    close(read_case(path).seen_by("NibabelIO").affine, np.diag([-1.0, -2.0, 3.0, 1.0]))


@many
@given(headers(), st.sampled_from([".nii", ".nii.gz"]), st.booleans())
@example(nib.Nifti1Header(), ".nii", False).via("no forms at all")
def test_labels_lie_where_their_image_does(tmp_path: Path, header: nib.Nifti1Header, ending: str, stated: bool) -> None:
    """In every program, as they read the same fields; also when the user computes at another spacing."""
    if header.structarr["dim"][0] < 3:
        header.set_data_shape((3, 4, 5))
        header.set_data_dtype(np.int16)
    path = file_with(header, tmp_path / "a.nii")
    case = read_case(path, spacing_mm=(4, 4, 4) if stated else None).seen_by("NibabelIOWithReorient")
    labels = np.arange(60, dtype=np.uint8).reshape(case.shape)
    out = write_labels(tmp_path / f"labels{ending}", labels, case)
    image, written = nib.load(path), nib.load(out)
    np.testing.assert_array_equal(written.affine, image.affine)
    np.testing.assert_array_equal(written.header.get_zooms(), image.header.get_zooms())
    assert written.header["xyzt_units"] == header["xyzt_units"]
    for field in ("qform_code", "sform_code"):
        assert written.header[field] == header[field]
    np.testing.assert_array_equal(written.get_fdata().T, labels)
    theirs = itk_frame(path)
    if theirs is not None:
        for ours, expected in zip(itk_frame(out), theirs, strict=True):
            np.testing.assert_array_equal(ours, expected)


@few
@given(headers())
def test_labels_of_itks_formats_lie_where_itk_sees_the_image(tmp_path: Path, header: nib.Nifti1Header) -> None:
    path = file_with(header, tmp_path / "a.nii")
    theirs = itk_frame(path)
    assume(theirs is not None)
    case: Case = read_case(path).seen_by("NibabelIO")
    out = write_labels(tmp_path / "labels.nrrd", np.zeros(case.shape, np.uint8), case)
    for ours, expected in zip(itk_frame(out), theirs, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-4 * theirs[0].max())
