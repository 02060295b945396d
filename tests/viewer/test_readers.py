"""Left stays left: a file opened by napari-nifti gives the labels that the same file gives without a viewer."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from napari_nifti._reader import napari_get_reader
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Settings, load_model, read_case, segment, segment_layer
from napari_nnunet_cpu.viewer.layers import image_from_layers

# Columns: the directions of the file's x, y, z, with spacings 1, 1.25 and 2 mm.
AFFINES = {
    "RAS": np.diag([1, 1.25, 2, 1]),
    "LPS": np.diag([-1, -1.25, 2, 1]),
    "LAI": np.diag([-1, 1.25, -2, 1]),
    "permuted": np.array([[0, 0, -2, 9], [1, 0, 0, -4], [0, -1.25, 0, 3], [0, 0, 0, 1.0]]),
    "oblique": np.array([[-0.96, 0.35, 0, 5], [0.28, 1.2, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1.0]]),
}


@pytest.fixture(params=AFFINES.values(), ids=AFFINES.keys())
def nifti(request, tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    array = smooth_image((18, 22, 26), seed=7)[0].transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(array, request.param), path)
    return path


def _opened(path: Path) -> tuple[ViewerModel, Layer]:
    viewer = ViewerModel()
    data, options, kind = napari_get_reader(str(path))(str(path))[0]
    return viewer, viewer.add_layer(Layer.create(data, options, kind))


def test_a_layer_becomes_the_case_of_its_file(nifti: Path) -> None:
    _, layer = _opened(nifti)
    from_layer, from_file = image_from_layers([layer]).case(), read_case(nifti)
    np.testing.assert_array_equal(from_layer.channels, from_file.channels)
    np.testing.assert_allclose(from_layer.spacing_mm, from_file.spacing_mm, rtol=1e-4)
    np.testing.assert_allclose(from_layer.affine, from_file.affine, atol=1e-5)


def test_labels_of_the_layer_are_those_of_the_file(nifti: Path, tmp_path: Path) -> None:
    model = load_model(RandomModel(spacing=(2.0, 1.3, 1.0)).write(tmp_path / "model"))
    viewer, layer = _opened(nifti)
    labels = segment_layer(viewer, layer, model, Settings.fast())
    expected = segment(read_case(nifti), model, Settings.fast()).labels
    # The same voxel has the same intensity in both arrays, however they are turned.
    in_file, in_layer = nib.load(nifti).get_fdata().T.ravel(), np.asarray(layer.data, np.float64).ravel()
    inside = np.count_nonzero(in_file)
    assert len(np.unique(in_file)) == inside + 1
    brightest_first = [np.argsort(-np.abs(values))[:inside] for values in (in_file, in_layer)]
    np.testing.assert_array_equal(labels.data.ravel()[brightest_first[1]], expected.ravel()[brightest_first[0]])
    assert len(np.unique(labels.data)) == 3
    np.testing.assert_allclose(labels.scale, layer.scale)
    np.testing.assert_allclose(labels.translate, layer.translate)


def test_other_layers_are_in_file_order() -> None:
    array = smooth_image((8, 9, 10), seed=1)[0]
    case = image_from_layers([ViewerModel().add_image(array, scale=(2, 1, 1), units="mm")]).case()
    np.testing.assert_array_equal(case.channels[0], array)
    assert case.affine is None
    assert case.spacing_mm == (2, 1, 1)
