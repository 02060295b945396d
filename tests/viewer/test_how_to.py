"""The scripts in the how-to pages run as they stand, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import napari
import nibabel as nib
import numpy as np
import pytest
from conftest import messages
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import read_case

PAGE = Path(__file__).parents[2] / "docs" / "how-to.md"


def scripts() -> list[str]:
    """The Python of the page, each script on the lines that it has there."""
    text = PAGE.read_text(encoding="utf-8")
    return [
        "\n" * text[: found.start(1)].count("\n") + found[1]
        for found in re.finditer(r"```python\n(.*?)```", text, re.S)
    ]


@pytest.fixture
def files(tmp_path, monkeypatch) -> None:
    """What the scripts read, in the working folder."""
    monkeypatch.chdir(tmp_path)
    image = smooth_image((20, 27, 25), seed=4)[0]
    for name in ("patient_0000.nii.gz", "ct.nii.gz"):
        nib.save(nib.Nifti1Image(image.T, np.diag([1, 1.5, 2, 1])), name)
    RandomModel(patch=(24, 24, 24)).write(tmp_path).parent.rename("Dataset027_ACDC")


def test_the_scripts_run(viewer, npe2pm, files, monkeypatch, capsys) -> None:
    names: dict = {}
    monkeypatch.setattr(napari, "Viewer", lambda: viewer)
    monkeypatch.setattr(napari, "run", lambda: names["run"].wait())
    with npe2pm.tmp_plugin(package="napari-nifti"):
        for script in scripts():
            exec(compile(script, PAGE.name, "exec"), names)
    name = "patient_0000.nii"
    assert [layer.name for layer in viewer.layers] == [name, f"{name} labels", f"{name} labels [1]"]
    assert "TileDone" in capsys.readouterr().out
    assert read_case("labels.nii.gz").shape == (20, 27, 25)
    saved = read_case("nnUNet_raw/Dataset501_Corrected/labelsTr/patient.nii.gz")
    assert saved.channels.any()
    np.testing.assert_allclose(saved.spacing_mm, (2, 1.5, 1))
    assert messages() == []
