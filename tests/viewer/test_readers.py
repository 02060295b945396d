"""Left stays left: a file opened by a reader of napari gives the labels that the same file gives without a viewer."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from contradictions import CONTRADICTIONS, write_contradiction
from napari.components import ViewerModel
from napari.layers import Image
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Settings, TrainedModel, load_model, read_case, segment, segment_layer
from napari_nnunet_cpu.cases import write_labels
from napari_nnunet_cpu.cases.case import SpacingSource
from napari_nnunet_cpu.viewer.image.layers import image_from_layers

pytestmark = [
    # The types that SWIG makes for ITK; they come with the first file that is read.
    pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute:DeprecationWarning"),
    # napari-itk-io makes a turned layer of its own, from which it takes scale and place only.
    pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning"),
]

# Columns: the directions of the file's x, y, z, with spacings 1, 1.25 and 2 mm.
TILT = np.array([[0.6, -0.64, 0.48], [0.8, 0.48, -0.36], [0, 0.6, 0.8]])
AFFINES = {
    "RAS": np.diag([1, 1.25, 2, 1]),
    "LPS": np.diag([-1, -1.25, 2, 1]),
    "LAI": np.diag([-1, 1.25, -2, 1]),
    "permuted": np.array([[0, 0, -2, 9], [1, 0, 0, -4], [0, -1.25, 0, 3], [0, 0, 0, 1.0]]),
    "oblique": np.array([[-0.96, 0.35, 0, 5], [0.28, 1.2, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1.0]]),
    "tilted": np.block([[TILT * [1, 1.25, 2], np.array([[5], [6], [7]])], [np.eye(4)[3:]]]),
    "tilted-permuted": np.block([[TILT[:, [1, 2, 0]] * [-1, 1.25, -2], np.array([[5], [6], [7]])], [np.eye(4)[3:]]]),
}
READERS = ("napari-nifti", "napari-itk-io")


@pytest.fixture(scope="module", autouse=True)
def lasting_itk():
    """Keep what ITK's SWIG shares between its modules: taking it down, Python may crash on exit."""
    yield
    shared = sys.modules.get("swig_runtime_data4")
    if shared is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(shared.type_pointer_capsule))


@pytest.fixture(params=AFFINES.values(), ids=AFFINES.keys())
def nifti(request, tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    array = smooth_image((18, 22, 26), seed=7)[0].transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(array, request.param), path)
    return path


@pytest.fixture(params=[".nii.gz", ".nrrd"])
def scan(request, nifti: Path) -> Path:
    """The file, asymmetric along every axis, in one of two formats."""
    if request.param == ".nii.gz":
        return nifti
    path = nifti.with_name("scan.nrrd")
    sitk.WriteImage(sitk.ReadImage(nifti), path)
    return path


@pytest.fixture
def opened(npe2pm) -> Callable[[Path, str], Image]:
    def opened(path: Path, reader: str) -> Image:
        with npe2pm.tmp_plugin(package=reader):
            (layer,) = ViewerModel().open(path, plugin=reader)
        return layer

    return opened


# napari-nifti opens neither: nibabel refuses the quaternion, and it refuses a matrix without inverse itself.
UNREADABLE = {"quaternion too long", "singular sform, and a qform"}
OPENED = [(reader, kind) for reader in READERS for kind in CONTRADICTIONS
          if reader != "napari-nifti" or kind not in UNREADABLE]  # fmt: skip


@pytest.fixture
def contradicting(tmp_path: Path) -> Callable[[str], Path]:
    def written(kind: str) -> Path:
        array = smooth_image((18, 22, 26), seed=7)[0].transpose(2, 1, 0)
        return write_contradiction(tmp_path / "scan.nii.gz", array, AFFINES["LAI"], kind)

    return written


@pytest.mark.parametrize(("reader", "kind"), OPENED)
def test_a_header_that_contradicts_itself_says_the_same_in_file_and_layer(
    opened, contradicting, reader: str, kind: str
) -> None:
    path = contradicting(kind)
    layer_case, file_case = image_from_layers([opened(path, reader)]).case(), read_case(path)
    np.testing.assert_array_equal(layer_case.channels, file_case.channels)
    for nnunet_reader in ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient"):
        ours, expected = (case.seen_by(nnunet_reader) for case in (layer_case, file_case))
        np.testing.assert_allclose(ours.spacing_mm, expected.spacing_mm, rtol=1e-4)
        assert (ours.affine is None) == (expected.affine is None)
        if expected.affine is not None:
            np.testing.assert_allclose(ours.affine, expected.affine, rtol=1e-4, atol=1e-4)
        assert ours.voxel_ml == pytest.approx(expected.voxel_ml, rel=1e-3)


@pytest.mark.parametrize(("reader", "kind"), OPENED)
def test_labels_of_such_a_file_lie_on_it_in_napari(opened, contradicting, reader: str, kind: str) -> None:
    path = contradicting(kind)
    case = read_case(path, spacing_mm=(3, 3, 3))
    out = write_labels(path.with_name("labels.nii.gz"), np.ones(case.shape, np.uint8), case)
    image, labels = opened(path, reader), opened(out, reader)
    assert labels.data.shape == image.data.shape
    for corner in ((0, 0, 0), np.subtract(image.data.shape, 1)):
        np.testing.assert_array_equal(labels.data_to_world(corner), image.data_to_world(corner))


def test_a_layer_that_was_rescaled_is_computed_at_its_scale(opened, contradicting) -> None:
    path = contradicting("voxel sizes of another scale")
    layer = opened(path, "napari-nifti")
    layer.scale = tuple(np.asarray(layer.scale) * 2)
    case = image_from_layers([layer]).case().seen_by("NibabelIOWithReorient")
    np.testing.assert_allclose(case.spacing_mm, (4, 2.5, 2))
    assert case.spacing_source is SpacingSource.USER
    np.testing.assert_allclose(case.to_world, nib.load(path).affine, atol=1e-5)


@pytest.mark.parametrize("reader", READERS)
def test_a_layer_becomes_the_case_of_its_file(scan: Path, opened, reader: str) -> None:
    image, expected = image_from_layers([opened(scan, reader)]), read_case(scan)
    case = image.case()
    np.testing.assert_array_equal(case.channels, expected.channels)
    np.testing.assert_allclose(case.spacing_mm, expected.spacing_mm, rtol=1e-4)
    np.testing.assert_allclose(case.affine, expected.affine, atol=1e-5)
    assert case.spacing_source is SpacingSource.STATED
    assert image.axes_source == "from the file's header"


def test_napari_nifti_turns_what_this_package_turns_back(nifti: Path, opened) -> None:
    layer, in_file = opened(nifti, "napari-nifti"), read_case(nifti).channels[0]
    turned = layer.data.shape != in_file.shape or not np.array_equal(layer.data, in_file)
    assert turned == (str(image_from_layers([layer]).axes) != "Z, Y, X")


@pytest.mark.parametrize("nrrd_too", [False, True], ids=["nifti", "nrrd"])
def test_what_the_axes_field_shows(tmp_path: Path, opened, nrrd_too: bool) -> None:
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), AFFINES["LAI"]), path)
    if nrrd_too:
        sitk.WriteImage(sitk.ReadImage(path), tmp_path / "scan.nrrd")
        path = tmp_path / "scan.nrrd"
    assert str(image_from_layers([opened(path, "napari-nifti")]).axes) == "-Z, Y, -X"
    assert str(image_from_layers([opened(path, "napari-itk-io")]).axes) == "Z, Y, X"


@pytest.fixture(scope="module", params=["SimpleITKIO", "NibabelIOWithReorient"])
def model(request, tmp_path_factory) -> TrainedModel:
    random_model = RandomModel(spacing=(2.0, 1.3, 1.0), reader=request.param)
    return load_model(random_model.write(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("reader", READERS)
def test_labels_of_the_layer_are_those_of_the_file(nifti: Path, opened, model: TrainedModel, reader: str) -> None:
    layer = opened(nifti, reader)
    labels = segment_layer(ViewerModel(), layer, model, Settings.fast())
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


@pytest.mark.parametrize(("reader", "axes"), [("napari-nifti", "Z, -Y, -X, C"), ("napari-itk-io", "C, Z, Y, X")])
def test_channels_along_the_fourth_axis_of_a_file(tmp_path: Path, opened, reader: str, axes: str) -> None:
    path = tmp_path / "both.nii.gz"
    array = np.random.default_rng(0).normal(size=(4, 5, 6, 2)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, AFFINES["LPS"]), path)
    layer, expected = opened(path, reader), read_case(path)
    image = image_from_layers([layer], channels=2)
    assert str(image.axes) == axes
    case = image.case()
    np.testing.assert_array_equal(case.channels, expected.channels)
    np.testing.assert_allclose(case.affine, expected.affine, atol=1e-6)
    assert case.spacing_mm == (2, 1.25, 1)
    series = image_from_layers([layer])
    assert str(series.axes) == axes.replace("C", "T")
    assert series.times == (0, 1)
    np.testing.assert_array_equal(series.case(time=1).channels, expected.channels[1:])


def test_channels_of_a_vector_nrrd(tmp_path: Path, opened) -> None:
    path = tmp_path / "both.nrrd"
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(6, 5, 4, 2)), isVector=True)
    image.SetSpacing((1, 1.25, 2))
    sitk.WriteImage(image, path)
    expected = read_case(path)
    case = image_from_layers([opened(path, "napari-nifti")], channels=2).case()
    np.testing.assert_array_equal(case.channels, expected.channels)
    np.testing.assert_allclose(case.affine, expected.affine, atol=1e-6)


def test_planes_of_napari_itk_io(tmp_path: Path, opened) -> None:
    path = tmp_path / "plane.nii.gz"
    array = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, AFFINES["LPS"]), path)
    case, expected = image_from_layers([opened(path, "napari-itk-io")]).case(), read_case(path)
    assert case.planar
    np.testing.assert_array_equal(case.channels, expected.channels)
    np.testing.assert_allclose(case.spacing_mm, expected.spacing_mm)


@pytest.mark.parametrize("reader", READERS)
def test_a_file_in_micrometres(tmp_path: Path, opened, reader: str) -> None:
    path = tmp_path / "small.nii"
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.diag([500.0, 600, 700, 1]))
    image.header.set_xyzt_units("micron")
    nib.save(image, path)
    case, expected = image_from_layers([opened(path, reader)]).case(), read_case(path)
    np.testing.assert_allclose(case.spacing_mm, (0.7, 0.6, 0.5), rtol=1e-5)
    np.testing.assert_allclose(case.spacing_mm, expected.spacing_mm, rtol=1e-5)
    np.testing.assert_allclose(case.affine, expected.affine, rtol=1e-5, atol=1e-6)


def test_a_tiff_says_nothing_of_the_body(tmp_path: Path, opened) -> None:
    path = tmp_path / "stack.tif"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.uint8)), path)
    image = image_from_layers([opened(path, "napari-itk-io")])
    assert image.affine is None
    assert image.axes_source == "assumed"
    assert image.spacing_source is SpacingSource.ASSUMED
    layer = opened(path, "napari-itk-io")
    layer.scale = (3, 1, 1)
    assert image_from_layers([layer]).spacing_source is SpacingSource.PIXEL_SIZE


def test_other_layers_are_in_file_order() -> None:
    array = smooth_image((8, 9, 10), seed=1)[0]
    image = image_from_layers([ViewerModel().add_image(array, scale=(2, 1, 1), units="mm")])
    case = image.case()
    np.testing.assert_array_equal(case.channels[0], array)
    assert case.affine is None
    assert case.spacing_mm == (2, 1, 1)
    assert case.spacing_source is SpacingSource.PIXEL_SIZE
    assert image.axes_source == "assumed"
