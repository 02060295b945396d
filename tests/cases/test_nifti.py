import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from napari_nnunet_cpu import read_case
from napari_nnunet_cpu.cases import Case, write_labels
from napari_nnunet_cpu.errors import CaseError

OBLIQUE = np.array([[0.0, -1.5, 0.0, 7.0], [0.6, 0.0, -2.4, -3.0], [0.8, 0.0, 1.8, 11.0], [0, 0, 0, 1]])
AFFINES = {
    "identity": np.eye(4),
    "LPS": np.diag([-1.0, -2.0, 3.0, 1.0]),
    "oblique": OBLIQUE,
    "axes-swapped": np.array([[0, 0, 2.5, -9], [0.5, 0, 0, 4], [0, 0.75, 0, 1], [0, 0, 0, 1]], float),
}


def counting(*shape):
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def written(path, array, affine, unit="mm"):
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_voxels_and_place_of_a_volume(tmp_path, affine, ending):
    array = counting(2, 3, 4)
    case = read_case(written(tmp_path / f"patient{ending}", array, affine))
    assert case.shape == (4, 3, 2)
    assert all(case.channels[0, z, y, x] == array[x, y, z] for x, y, z in np.ndindex(array.shape))
    np.testing.assert_allclose(case.affine, affine, rtol=1e-6)
    np.testing.assert_allclose(case.spacing_mm, np.linalg.norm(affine[:3, :3], axis=0)[::-1], rtol=1e-6)
    assert (case.name, case.planar, case.spacing_known) == ("patient", False, True)


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1.0), ("micron", 1e-3), ("meter", 1e3), ("unknown", 1.0)])
def test_lengths_become_millimetres(tmp_path, unit, scale):
    case = read_case(written(tmp_path / "a.nii", counting(2, 3, 4), OBLIQUE, unit))
    np.testing.assert_allclose(case.spacing_mm, [3.0 * scale, 1.5 * scale, scale], rtol=1e-6)
    np.testing.assert_allclose(case.affine[:3], OBLIQUE[:3] * scale, rtol=1e-6)
    assert case.affine[3].tolist() == [0, 0, 0, 1]


def test_a_planar_file_gets_nnunets_thickness(tmp_path):
    array = counting(5, 7)
    case = read_case(written(tmp_path / "a.nii", array, np.diag([0.5, 0.25, 1.0, 1.0])))
    assert case.planar
    assert case.channels.shape == (1, 1, 7, 5)
    assert case.channels[0, 0, 6, 1] == array[1, 6]
    assert case.spacing_mm == (499.5, 0.25, 0.5)


def test_a_volume_of_one_slice_is_not_planar(tmp_path):
    case = read_case(written(tmp_path / "a.nii", counting(5, 7, 1), np.eye(4)))
    assert not case.planar
    assert case.spacing_mm == (1.0, 1.0, 1.0)


def test_the_fourth_axis_is_channels(tmp_path):
    array = counting(2, 3, 4, 5)
    case = read_case(written(tmp_path / "a.nii.gz", array, OBLIQUE))
    assert case.channels.shape == (5, 4, 3, 2)
    assert case.channels[4, 3, 2, 1] == array[1, 2, 3, 4]
    np.testing.assert_allclose(case.spacing_mm, (3.0, 1.5, 1.0), rtol=1e-6)


@pytest.mark.parametrize(("shape", "read"), [((2, 3, 4, 1, 1), (1, 4, 3, 2)), ((2, 3, 4, 5, 1, 1, 1), (5, 4, 3, 2)),
    ((2, 3, 1, 1), (1, 1, 3, 2))])  # fmt: skip
def test_further_axes_of_one_voxel_are_left_out(tmp_path, shape, read):
    case = read_case(written(tmp_path / "a.nii", counting(*shape), np.eye(4)))
    assert case.channels.shape == read
    np.testing.assert_array_equal(case.channels.ravel()[:3], counting(*shape).ravel("F")[:3])


@pytest.mark.parametrize("axes", [(3, 0, 0, 0, 0), (4, 0, 0, 0, 0), (5, -1, 0, 0, 0), (7, 0, 0, -5, 0)])
def test_a_length_of_zero_is_one_as_in_itk(tmp_path, axes):
    path = written(tmp_path / "a.nii", counting(2, 3, 4), np.eye(4))
    content = bytearray(path.read_bytes())
    struct.pack_into("<h3h4h", content, 40, axes[0], 2, 3, 4, *axes[1:])
    path.write_bytes(content)
    np.testing.assert_array_equal(read_case(path).channels[0], sitk.GetArrayFromImage(sitk.ReadImage(path)))


@pytest.mark.parametrize("shape", [(5,), (2, 2, 2, 2, 2)], ids=["1D", "5D"])
def test_other_numbers_of_axes_are_refused(tmp_path, shape):
    with pytest.raises(CaseError, match=rf"has {len(shape)} axes \({shape[0]}.*2, 3 or 4 axes is needed"):
        read_case(written(tmp_path / "a.nii", counting(*shape), np.eye(4)))


def test_slope_and_intercept_are_applied(tmp_path):
    path = written(tmp_path / "a.nii", counting(2, 3, 4), np.eye(4))
    content = bytearray(path.read_bytes())
    struct.pack_into("<ff", content, 112, 2.0, -3.0)  # scl_slope, scl_inter
    path.write_bytes(content)
    np.testing.assert_array_equal(read_case(path).channels[0].T, counting(2, 3, 4) * 2.0 - 3.0)


numbers = st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, 1e-3, np.nan, np.inf, -np.inf])


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers, numbers, st.sampled_from(["i2", "u1", "f4", "f8", "i4"]), st.sampled_from(["<", ">"]))
def test_slope_and_intercept_mean_what_they_mean_to_itk(tmp_path, slope, intercept, dtype, order):
    header = nib.Nifti1Header(endianness=order)
    header.set_data_shape((2, 3, 4))
    header.set_data_dtype(np.dtype(order + dtype))
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = 352, slope, intercept
    path = tmp_path / "a.nii"
    path.write_bytes(header.binaryblock + bytes(4) + (counting(2, 3, 4).T * 3 + 7).astype(order + dtype).tobytes())
    np.testing.assert_array_equal(read_case(path).channels[0], sitk.GetArrayFromImage(sitk.ReadImage(path)))


def test_complex_and_colour_voxels_are_refused(tmp_path):
    colour = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name, array in (("complex", np.zeros((2, 2, 2), np.complex64)), ("colour", colour)):
        with pytest.raises(CaseError, match=f"{name}: expected real numbers, found dtype"):
            read_case(written(tmp_path / f"{name}.nii", array, np.eye(4)))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_declares_a_giant_gets_no_memory(tmp_path, monkeypatch, ending):
    path = written(tmp_path / "small.nii", counting(2, 3, 4), np.eye(4))
    content = bytearray(path.read_bytes())
    struct.pack_into("<3h", content, 42, 30000, 30000, 30000)  # dim[1:4]
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
    monkeypatch.setattr(np, "asanyarray", lambda *_: pytest.fail("the voxels were asked for"))
    with pytest.raises(
        CaseError,
        match=r"is damaged or cut off: its header declares 5\.4e\+13 bytes of voxels, which can't be in the \d+",
    ):
        read_case(path)


def test_the_emptiest_honest_file_is_read(tmp_path):
    array = np.zeros((200, 200, 100), np.uint8)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nib.Nifti1Image(array, np.eye(4)).to_bytes(), 9))
    assert array.size / path.stat().st_size > 900
    assert not read_case(path).channels.any()


def test_voxels_that_are_no_numbers_are_counted(tmp_path):
    array = np.zeros((3, 3, 3), np.float32)
    array[0, 0, :2] = np.nan, np.inf
    with pytest.raises(CaseError, match="a: channel 0 has 2 voxels that are NaN, infinite or beyond"):
        read_case(written(tmp_path / "a.nii", array, np.eye(4)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8-bit", "16-bit"])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_labels_lie_where_the_image_lies(tmp_path, affine, dtype):
    case = read_case(written(tmp_path / "image.nii.gz", counting(2, 3, 4), affine))
    labels = counting(4, 3, 2).astype(dtype) * 10
    image = nib.load(write_labels(tmp_path / "labels.nii.gz", labels, case))
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), labels.T)
    assert image.get_data_dtype() == dtype
    np.testing.assert_array_equal(image.affine, nib.load(tmp_path / "image.nii.gz").affine)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_labels_of_an_image_in_microns_are_in_microns(tmp_path):
    case = read_case(written(tmp_path / "image.nii", counting(2, 3, 4), np.diag([2.0, 4.0, 8.0, 1.0]), "micron"))
    image = nib.load(write_labels(tmp_path / "labels.nii", np.zeros((4, 3, 2), np.uint8), case))
    assert image.header.get_xyzt_units()[0] == "micron"
    np.testing.assert_array_equal(image.header.get_zooms(), (2, 4, 8))
    np.testing.assert_array_equal(image.affine, np.diag([2, 4, 8, 1]))


def test_nibabels_readers_take_microns_for_millimetres_but_volumes_do_not(tmp_path):
    case = read_case(written(tmp_path / "image.nii", counting(2, 3, 4), np.diag([200.0, 400.0, 800.0, 1.0]), "micron"))
    assert case.notes == ()
    seen = case.seen_by("NibabelIO")
    assert (case.spacing_mm, seen.spacing_mm) == ((0.8, 0.4, 0.2), (800, 400, 200))
    assert case.voxel_ml == pytest.approx(0.8 * 0.4 * 0.2 / 1000)
    assert seen.voxel_ml == pytest.approx(case.voxel_ml)
    (note,) = seen.notes
    assert note.startswith("image is measured in micrometres, which NibabelIO takes for millimetres: ")
    assert note.endswith("the spacing (Z, Y, X) is taken as 800, 400, 200, as in nnU-Net")
    assert seen.seen_by("NibabelIO") is seen
    assert seen.with_spacing((1, 1, 1)).seen_by("NibabelIO").voxel_ml == pytest.approx(1 / 1000)


def test_labels_of_an_image_without_a_header_get_both_forms(tmp_path):
    for affine, qform in ((OBLIQUE, 1), (OBLIQUE @ (np.eye(4) + np.eye(4, k=1) * [0, 0.3, 0, 0]), 0)):
        case = Case(np.zeros((1, 4, 3, 2), np.float32), tuple(np.linalg.norm(affine[:3, :3], axis=0)[::-1]), affine)
        header = nib.load(write_labels(tmp_path / "labels.nii", np.zeros((4, 3, 2), np.uint8), case)).header
        assert (header["qform_code"], header["sform_code"]) == (qform, 1)
        np.testing.assert_allclose(header.get_sform(), affine, rtol=1e-6)
        if qform:
            np.testing.assert_allclose(header.get_qform(), affine, atol=1e-5)


def test_labels_without_an_affine_keep_the_spacing(tmp_path):
    case = Case(np.zeros((1, 4, 3, 2), np.float32), (3.0, 2.0, 0.5))
    image = nib.load(write_labels(tmp_path / "labels.nii", np.zeros((4, 3, 2), np.uint8), case))
    assert image.header.get_zooms() == (0.5, 2.0, 3.0)


def test_labels_of_a_planar_image_are_planar(tmp_path):
    case = read_case(written(tmp_path / "image.nii", counting(5, 7), np.diag([0.5, 0.25, 1.0, 1.0])))
    labels = counting(1, 7, 5).astype(np.uint8)
    image = nib.load(write_labels(tmp_path / "labels.nii", labels, case))
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), labels[0].T)
    assert image.header.get_zooms() == (0.5, 0.25)


lengths = st.floats(-10, 10, allow_nan=False)


@settings(max_examples=80, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    columns=st.lists(st.tuples(lengths, lengths, lengths), min_size=3, max_size=3),
    origin=st.tuples(*[st.floats(-1e4, 1e4)] * 3),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    seed=st.integers(0, 99),
)
def test_labels_come_back_from_anywhere_in_space(tmp_path, columns, origin, shape, seed):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.array(columns).T, origin
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    assume(sizes.min() > 1e-2)
    assume(abs(np.linalg.det(affine[:3, :3] / sizes)) > 1e-2)
    labels = np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)
    case = Case(np.zeros((1, *shape), np.float32), tuple(sizes[::-1]), affine)
    back = read_case(write_labels(tmp_path / "labels.nii", labels, case))
    np.testing.assert_array_equal(back.channels[0], labels)
    # The file holds single precision, and nothing else may be lost.
    np.testing.assert_array_equal(back.affine, affine.astype(np.float32))
    np.testing.assert_allclose(back.spacing_mm, case.spacing_mm, rtol=1e-6)
