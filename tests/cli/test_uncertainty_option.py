"""`nnunet-cpu segment --uncertainty`."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_nnunet_cpu import Settings, load_model, read_case, segment

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ([], "margin"),
        (["--uncertainty-kind", "entropy"], "entropy"),
        (["--uncertainty-kind", "disagreement"], "disagreement"),
    ],
)
def test_it_is_that_of_python(nnunet, image: Path, model: Path, options: list[str], kind: str) -> None:
    arguments = [
        "segment",
        image,
        "-m",
        model,
        "-o",
        "o.nii.gz",
        "--uncertainty",
        "d.nii.gz",
        *options,
        "--preset",
        "fast",
    ]
    done = nnunet(*arguments, "--threads", 1, "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["outputs"] == {"labels": "o.nii.gz", "uncertainty": "d.nii.gz"}
    assert document["settings"]["uncertainty"] == kind
    expected = segment(read_case(image), load_model(model), Settings.fast(threads=1, uncertainty=kind))
    written = nib.load("d.nii.gz")
    assert written.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(written.dataobj).transpose(2, 1, 0), expected.uncertainty)
    np.testing.assert_allclose(written.affine, nib.load(image).affine)
    labels = np.asarray(nib.load("o.nii.gz").dataobj).transpose(2, 1, 0)
    assert np.array_equal(labels, segment(read_case(image), load_model(model), Settings.fast(threads=1)).labels)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--uncertainty", "d.png"], 1, "d.png: this format holds no fractions; use one of .nii, "),
        (["--uncertainty", "o.nii.gz"], 2, "can't be both labels and uncertainty"),
        (["--uncertainty", "d.nii.gz", "--uncertainty-kind", "variance"], 2, "unknown uncertainty 'variance'"),
        (
            ["--uncertainty", "d.nii.gz", "--uncertainty-kind", "disagreement", "-f", "0", "--no-mirror"],
            2,
            "one pass per tile: choose margin or entropy",
        ),
    ],
)
def test_what_is_refused(nnunet, image: Path, model: Path, options: list[str], code: int, message: str) -> None:
    done = nnunet("segment", image, "-m", model, "-o", "o.nii.gz", *options)
    assert done.exit_code == code
    assert message in done.stderr
    assert not list(Path().iterdir())


def test_help_says_that_it_is_not_calibrated(nnunet) -> None:
    words = nnunet("segment", "--help").stdout.replace("│", " ").split()
    assert "uncalibrated." in words
