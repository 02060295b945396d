"""`nnunet-cpu segment` on files whose header contradicts itself, from the file to the labels and the report."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from contradictions import CONTRADICTIONS, write_contradiction
from random_model import smooth_image

AFFINE = np.diag([-1.0, -1.25, 1.0, 1.0])


def a_scan(folder: Path, kind: str) -> Path:
    return write_contradiction(folder / "scan.nii.gz", smooth_image((16, 20, 18), 0)[0].T, AFFINE, kind)


def header_of(path: Path) -> nib.Nifti1Header:
    with nib.openers.ImageOpener(path) as file:
        return nib.Nifti1Header(file.read(348), check=False)


@pytest.mark.parametrize("options", [(), ("--spacing", "1,1,1")], ids=["as it is", "stated"])
@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_spacing_volumes_and_place_agree(nnunet, model, tmp_path, kind, options):
    image, out, report = a_scan(tmp_path, kind), tmp_path / "o.nii.gz", tmp_path / "r.json"
    if kind == "micrometres":  # of a thousandth of the size, which no model is for
        image = write_contradiction(image, smooth_image((16, 20, 18), 0)[0].T, AFFINE * 1000, kind)
    quick = ("-f", "0", "--no-mirror", "--engine", "torch")
    done = nnunet("segment", image, "-m", model, "-o", out, "--report", report, *quick, *options)
    assert done.exit_code == 0, done.stderr
    document = json.loads(report.read_text())
    sizes = np.ones(3) if options else np.array([1.0, 1.25, 1.0])
    if kind == "voxel sizes of another scale" and not options:
        sizes = sizes * (0.7, 1.0, 1.6)
    np.testing.assert_allclose(document["image"]["spacing_mm"], sizes, rtol=1e-6)
    for volume in document["volumes"].values():
        assert volume["ml"] == pytest.approx(volume["voxels"] * sizes.prod() / 1000)
    ours, theirs = header_of(out), header_of(image)
    for field in ("pixdim", "xyzt_units", "qform_code", "sform_code", "srow_x", "srow_z", "quatern_d", "qoffset_y"):
        np.testing.assert_array_equal(np.atleast_1d(ours[field])[:4], np.atleast_1d(theirs[field])[:4])


def test_a_form_without_inverse_is_no_obstacle_and_is_told(nnunet, model, tmp_path):
    image = a_scan(tmp_path, "singular sform, and a qform")
    header = header_of(image)
    header["qform_code"] = 0
    content = header.binaryblock + bytes(4) + smooth_image((16, 20, 18), 0)[0].astype(header.get_data_dtype()).tobytes()
    image = tmp_path / "singular.nii"
    image.write_bytes(content)
    done = nnunet("segment", image, "-m", model, "-o", tmp_path / "o.nii", "--engine", "torch")
    assert done.exit_code == 0, done.stderr
    assert "singular has an unknown position: its affine has no inverse\n" in done.stderr
    assert header_of(tmp_path / "o.nii")["sform_code"] == 2
