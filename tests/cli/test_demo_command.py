import json
import sys
import types
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from napari_nnunet_cpu import read_case
from napari_nnunet_cpu.cli import demo
from napari_nnunet_cpu.samples import NOT_FOR_MEDICAL_USE, sample_image

pytestmark = pytest.mark.slow


@pytest.fixture
def small(monkeypatch, image, model):
    """The demo with the tests' image and model in place of the shipped ones."""
    monkeypatch.setattr(demo, "sample_image", lambda: image)
    monkeypatch.setattr(demo, "sample_model", lambda: model)
    return image


def test_the_shipped_image_and_model(nnunet):
    done = nnunet("demo", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    folder = Path("nnunet-cpu-demo")
    assert sorted(path.name for path in folder.iterdir()) == [
        "icbm152_t1_2mm_labels.nii.gz",
        "icbm152_t1_2mm_labels.png",
    ]
    labels = np.asarray(nib.load(document["outputs"]["labels"]).dataobj).transpose(2, 1, 0)
    case = read_case(sample_image())
    assert labels.shape == case.shape
    assert document["volumes"].keys() == {"grey matter", "white matter"}
    for volume in document["volumes"].values():
        assert volume["voxels"] == np.count_nonzero(labels == volume["label"])
        assert 300 < volume["ml"] < 1500  # of a grown-up
    with Image.open(document["picture"]) as picture:
        assert picture.width > 2 * picture.height


def test_what_people_read(nnunet, small, tmp_path):
    done = nnunet("demo", "--out", tmp_path / "new" / "folder")
    assert done.exit_code == 0
    assert done.stderr.startswith("2 tiles, 16 passes")
    lines = done.stdout.splitlines()
    assert lines[-3].startswith("labels: ")
    assert lines[-2].startswith("picture: ")
    assert lines[-1] == NOT_FOR_MEDICAL_USE
    assert "liver" in done.stdout
    for line in lines[-3:-1]:
        assert Path(line.split(": ", 1)[1]).is_file()


def test_json(nnunet, small):
    document = json.loads(nnunet("demo", "--json").stdout)
    assert document["note"] == NOT_FOR_MEDICAL_USE
    assert document["images"] == [str(small)]


def test_viewer(nnunet, small, monkeypatch):
    opened = []
    scripting = types.ModuleType("napari_nnunet_cpu.viewer.scripting")
    scripting.open_result = lambda case, result: opened.append((case, result))
    monkeypatch.setitem(sys.modules, scripting.__name__, scripting)
    assert nnunet("demo").exit_code == 0
    assert opened == []
    assert nnunet("demo", "--viewer").exit_code == 0
    [(case, result)] = opened
    np.testing.assert_array_equal(case.channels, result.case.channels)
    np.testing.assert_array_equal(result.labels.transpose(2, 1, 0), nib.load(next(Path().rglob("*.nii.gz"))).dataobj)


def test_a_file_in_the_way(nnunet, small, tmp_path):
    done = nnunet("demo", "--out", small)
    assert done.exit_code == 1
    assert done.stderr == f"error: {small}: File exists\n"
