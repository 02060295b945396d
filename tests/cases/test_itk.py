import subprocess
import sys
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_nnunet_cpu import read_case
from napari_nnunet_cpu.cases import Case, write_labels
from napari_nnunet_cpu.cases.case import SpacingSource, planar_spacing
from napari_nnunet_cpu.cases.files import check_output
from napari_nnunet_cpu.errors import CaseError, OutputError

ENDINGS = [".nrrd", ".mha", ".gipl"]
LABEL_ENDINGS = [".nrrd", ".mha"]
SPACING_XYZ = (0.5, 0.75, 3.0)
ORIGIN = (-12.5, 7.25, 101.0)
TURNED = np.linalg.qr(np.array([[2.0, 1, 0.5], [-1, 3, 0.25], [0.5, 0.75, -4]]))[0]
DIRECTIONS = {
    "identity": np.eye(3),
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "mirrored": np.diag([1.0, 1.0, -1.0]),
    "axes-swapped": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": TURNED,
}
RAW_NRRD = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 3 2\nencoding: raw\n\n" + bytes(range(24))
RAW_MHA = (
    b"ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 4 3 2\n"
    b"ElementType = MET_UCHAR\nElementDataFile = LOCAL\n" + bytes(range(24))
)


def counting(*shape, dtype=np.int16):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def an_image(array, direction=None, vector=False):
    """An ITK image with the first numbers of the constants above, for as many axes as it has."""
    image = sitk.GetImageFromArray(array, isVector=vector)
    axes = image.GetDimension()
    image.SetSpacing((*SPACING_XYZ, 1.0, 1.0)[:axes])
    image.SetOrigin((*ORIGIN, 0.0, 0.0)[:axes])
    if direction is not None:
        image.SetDirection(np.ravel(direction).tolist())
    return image


def written(path, image, compressed=False):
    sitk.WriteImage(image, str(path), compressed)
    return path


def ras_of(image, index):
    x, y, z = image.TransformIndexToPhysicalPoint(index)
    return -x, -y, z


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "compressed"])
@pytest.mark.parametrize("ending", LABEL_ENDINGS)
@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_voxels_and_place_of_a_volume(tmp_path, direction, ending, compressed):
    array = counting(4, 3, 2)
    image = an_image(array, direction)
    case = read_case(written(tmp_path / f"patient{ending}", image, compressed))
    np.testing.assert_array_equal(case.channels, array[None])
    assert case.channels[0, 3, 1, 0] == image[0, 1, 3]
    np.testing.assert_allclose(case.spacing_mm, (3.0, 0.75, 0.5), rtol=1e-12)
    for index in [(0, 0, 0), (1, 0, 0), (0, 2, 0), (0, 0, 3), (1, 2, 3)]:
        np.testing.assert_allclose((case.affine @ [*index, 1])[:3], ras_of(image, index), rtol=1e-12, atol=1e-12)
    assert (case.name, case.planar, case.spacing_source) == ("patient", False, SpacingSource.STATED)


def test_a_gipl_has_no_directions(tmp_path):
    array = counting(4, 3, 2)
    case = read_case(written(tmp_path / "a.gipl", an_image(array)))
    np.testing.assert_array_equal(case.channels, array[None])
    assert case.spacing_mm == (3.0, 0.75, 0.5)
    np.testing.assert_array_equal(case.affine, [[-0.5, 0, 0, 12.5], [0, -0.75, 0, -7.25], [0, 0, 3, 101], [0, 0, 0, 1]])


@pytest.mark.parametrize("ending", LABEL_ENDINGS)
@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_the_same_image_as_nifti_is_the_same_case(tmp_path, direction, ending):
    image = an_image(counting(4, 3, 2), direction)
    ours, nifti = (read_case(written(tmp_path / f"a{end}", image)) for end in (ending, ".nii.gz"))
    np.testing.assert_array_equal(ours.channels, nifti.channels)
    np.testing.assert_allclose(ours.affine, nifti.affine, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(ours.spacing_mm, nifti.spacing_mm, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("ending", LABEL_ENDINGS)
def test_every_kind_of_number_is_kept(tmp_path, dtype, ending):
    array = counting(4, 3, 2, dtype=dtype) * 5
    case = read_case(written(tmp_path / f"a{ending}", an_image(array)))
    np.testing.assert_array_equal(case.channels[0], array)
    assert case.channels.dtype == dtype


@pytest.mark.parametrize("name", ["A.NRRD", "A.MHA", "A.Gipl"])
def test_an_ending_in_capitals(tmp_path, name):
    path = written(tmp_path / name.lower(), an_image(counting(4, 3, 2))).rename(tmp_path / name)
    case = read_case(path)
    np.testing.assert_array_equal(case.channels[0], counting(4, 3, 2))
    assert case.name == "A"


@pytest.mark.parametrize("ending", LABEL_ENDINGS)
def test_a_planar_file_gets_nnunets_thickness(tmp_path, ending):
    case = read_case(written(tmp_path / f"a{ending}", an_image(counting(5, 7), [[0, -1], [1, 0]])))
    np.testing.assert_array_equal(case.channels, counting(5, 7)[None, None])
    assert case.planar
    assert case.spacing_mm == (0.75 * 999, 0.75, 0.5)
    np.testing.assert_array_equal(case.affine, [[0, 0.75, 0, 12.5], [-0.5, 0, 0, -7.25], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_volume_of_one_slice_is_not_planar(tmp_path, ending):
    case = read_case(written(tmp_path / f"a{ending}", an_image(counting(1, 5, 7))))
    assert not case.planar
    assert case.spacing_mm == (3.0, 0.75, 0.5)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_fourth_axis_is_channels(tmp_path, ending):
    array = counting(5, 4, 3, 2)
    case = read_case(written(tmp_path / f"a{ending}", an_image(array)))
    np.testing.assert_array_equal(case.channels, array)
    assert case.spacing_mm == (3.0, 0.75, 0.5)
    np.testing.assert_array_equal(case.affine, [[-0.5, 0, 0, 12.5], [0, -0.75, 0, -7.25], [0, 0, 3, 101], [0, 0, 0, 1]])


@pytest.mark.parametrize("ending", LABEL_ENDINGS)
@pytest.mark.parametrize("shape", [(4, 3, 2), (5, 7)], ids=["volume", "planar"])
def test_components_are_channels(tmp_path, ending, shape):
    array = counting(*shape, 3)
    case = read_case(written(tmp_path / f"a{ending}", an_image(array, vector=True)))
    np.testing.assert_array_equal(case.channels, np.moveaxis(array.reshape(-1, *shape[-2:], 3), -1, 0))
    assert case.planar == (len(shape) == 2)
    assert case.spacing_mm[1:] == (0.75, 0.5)


@pytest.mark.parametrize("ending", LABEL_ENDINGS)
@pytest.mark.parametrize(
    ("shape", "vector"), [((2, 2, 2, 2, 2), False), ((2, 2, 2, 2, 3), True)], ids=["5D", "vectors"]
)
def test_other_numbers_of_axes_are_refused(tmp_path, ending, shape, vector):
    path = written(tmp_path / f"a{ending}", an_image(counting(*shape, dtype=np.float32), vector=vector))
    with pytest.raises(CaseError, match=r"has axes \(2, .* components; an image of 2 or 3 axes is needed, or of 4"):
        read_case(path)


def test_complex_voxels_are_refused(tmp_path):
    with pytest.raises(CaseError, match=r"a\.nrrd: expected real numbers, found complex of 64-bit float"):
        read_case(written(tmp_path / "a.nrrd", an_image(counting(4, 3, 2) + 1j)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nrrd", RAW_NRRD.replace(b"encoding", b"spacings: -0.5 0.75 3\nencoding")),
        ("a.mha", RAW_MHA.replace(b"ElementType", b"ElementSpacing = -0.5 0.75 3\nElementType")),
    ],
)
def test_a_negative_spacing_is_a_direction(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    case = read_case(tmp_path / name)
    assert case.spacing_mm == (3.0, 0.75, 0.5)
    np.testing.assert_array_equal(case.affine, np.diag([0.5, -0.75, 3.0, 1.0]))
    np.testing.assert_array_equal(case.channels.ravel(), np.arange(24))


def test_other_axes_than_itks_are_turned(tmp_path):
    turned = (
        b"space: right-anterior-superior\nspace directions: (0,1,0) (2,0,0) (0,0,3)\nspace origin: (1,2,3)\nencoding"
    )
    (tmp_path / "a.nrrd").write_bytes(RAW_NRRD.replace(b"encoding", turned))
    case = read_case(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(case.affine, [[0, 2, 0, 1], [1, 0, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]])
    assert case.spacing_mm == (3.0, 2.0, 1.0)


def test_a_header_may_end_its_lines_as_windows_does(tmp_path):
    for name, content in (("a.nrrd", RAW_NRRD), ("a.mha", RAW_MHA)):
        header, voxels = content[:-24], content[-24:]
        (tmp_path / name).write_bytes(header.replace(b"\n", b"\r\n") + voxels)
        np.testing.assert_array_equal(read_case(tmp_path / name).channels.ravel(), np.arange(24))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_voxels_as_text(tmp_path, name):
    content = {
        "a.nrrd": RAW_NRRD.replace(b"raw", b"ascii"),
        "a.mha": RAW_MHA.replace(b"True", b"False"),
    }[name]
    (tmp_path / name).write_bytes(content[:-24] + " ".join(map(str, range(24))).encode() + b"\n")
    np.testing.assert_array_equal(read_case(tmp_path / name).channels.ravel(), np.arange(24))


def test_channels_may_come_from_files_of_several_formats(tmp_path):
    paths = [written(tmp_path / f"p_{i}{ending}", an_image(counting(4, 3, 2) + i, TURNED)) for i, ending in
             enumerate([".nrrd", ".nii.gz", ".mha"])]  # fmt: skip
    case = read_case(*paths)
    np.testing.assert_array_equal(case.channels, [counting(4, 3, 2) + i for i in range(3)])
    elsewhere = written(tmp_path / "q.mha", an_image(counting(4, 3, 2)))
    with pytest.raises(CaseError, match="different places: q is up to .* voxels away from p_0"):
        read_case(paths[0], elsewhere)


def test_spacing_stated_by_the_user_wins(tmp_path):
    case = read_case(written(tmp_path / "a.mha", an_image(counting(4, 3, 2))), spacing_mm=(6.0, 1.5, 0.5))
    assert case.spacing_mm == (6.0, 1.5, 0.5)
    np.testing.assert_array_equal(case.affine, [[-0.5, 0, 0, 12.5], [0, -0.75, 0, -7.25], [0, 0, 3, 101], [0, 0, 0, 1]])


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "compressed"])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98], ids="{:.0%}".format)
def test_a_truncated_file_is_a_case_error_without_noise(tmp_path, capfd, ending, share, compressed):
    array = np.random.default_rng(0).integers(0, 255, (4, 20, 30), "u1")
    path = written(tmp_path / f"a{ending}", an_image(array), compressed)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CaseError, match=rf"^\S*/a{ending} (can't be read as |is damaged or cut off: |is cut off: )"):
        read_case(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", LABEL_ENDINGS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999], ids="{:.1%}".format)
def test_compressed_voxels_that_changed_are_found(tmp_path, capfd, ending, share):
    array = np.random.default_rng(0).integers(0, 255, (4, 20, 30), "u1")
    path = written(tmp_path / f"a{ending}", an_image(array), True)
    content = bytearray(path.read_bytes())
    start = content.index(b"\n\n") + 2 if ending == ".nrrd" else content.index(b"LOCAL\n") + 6
    content[start + int((len(content) - start) * share)] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(CaseError, match=rf"a{ending} is (damaged: its compressed part can't be decompressed|cut off)"):
        read_case(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("length", [b"15", b"", b"-1"], ids=["too-short", "none", "negative"])
def test_a_wrong_length_of_compressed_voxels_is_found(tmp_path, capfd, length):
    voxels = zlib.compress(bytes(range(24)))
    header = RAW_MHA[:-24].replace(b"DimSize", b"CompressedData = True\nCompressedDataSize = %b\nDimSize")
    path = tmp_path / "a.mha"
    path.write_bytes(header % str(len(voxels)).encode() + voxels)
    np.testing.assert_array_equal(read_case(path).channels.ravel(), np.arange(24))
    path.write_bytes(header % length + voxels)
    with pytest.raises(CaseError, match=r"a\.mha (is cut off: its compressed|can't be read as MHA: .* not all of it)"):
        read_case(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sizes", [b"4 3 1", b"4 3 3"], ids=["less", "more"])
def test_compressed_voxels_of_another_shape_are_refused(tmp_path, sizes):
    path = tmp_path / "a.nrrd"
    header = RAW_NRRD[:-24].replace(b"raw", b"gzip").replace(b"4 3 2", sizes)
    path.write_bytes(header + zlib.compress(bytes(range(24)), wbits=31))
    with pytest.raises(CaseError, match=r"its header declares (12|36) bytes of voxels, the file holds 24"):
        read_case(path)


HUGE = {
    "raw.nrrd": RAW_NRRD.replace(b"4 3 2", b"100000 100000 100000"),
    "gzip.nrrd": RAW_NRRD[:-24].replace(b"4 3 2", b"90000 90000 90000").replace(b"raw", b"gzip")
    + zlib.compress(bytes(24), wbits=31),
    "text.nrrd": RAW_NRRD.replace(b"4 3 2", b"90000 90000 90000").replace(b"raw", b"ascii"),
    "overflow.nrrd": RAW_NRRD.replace(b"4 3 2", b"4000000000 4000000000 4000000000"),
    "raw.mha": RAW_MHA.replace(b"4 3 2", b"100000 100000 100000"),
    "channels.mha": RAW_MHA.replace(b"NDims", b"ElementNumberOfChannels = 1000000000\nNDims"),
    "text.mha": RAW_MHA.replace(b"4 3 2", b"90000 90000 90000").replace(b"True", b"False"),
    "raw.gipl": b"\x75\x30" * 4 + b"\0\x08" + bytes(242) + b"\xef\xff\xe9\xb0" + bytes(24),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_header_that_declares_a_giant_gets_no_memory(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(HUGE[name])
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", lambda self: pytest.fail("the voxels were asked for"))
    with pytest.raises(CaseError, match="damaged|too large to be represented"):
        read_case(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nrrd", RAW_NRRD.replace(b"encoding", b"data file: voxels.raw\nencoding")),
        ("a.mha", RAW_MHA.replace(b"LOCAL", b"voxels.raw")),
    ],
)
def test_voxels_in_another_file_are_refused(tmp_path, name, content):
    (tmp_path / "voxels.raw").write_bytes(bytes(range(24)))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CaseError, match="keeps its voxels in another file; save it as one file"):
        read_case(tmp_path / name)


def test_what_itk_says_is_one_line_of_it(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(RAW_NRRD.replace(b"uint8", b"uint\xff"))
    with pytest.raises(CaseError) as caught:
        read_case(tmp_path / "a.nrrd")
    reason = "couldn't parse type \"uint"
    assert str(caught.value).startswith(f"{tmp_path / 'a.nrrd'} can't be read as NRRD: ")
    assert reason in str(caught.value)
    assert str(caught.value).isascii()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8-bit", "16-bit"])
@pytest.mark.parametrize("ending", LABEL_ENDINGS)
@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_labels_lie_where_the_image_lies(tmp_path, direction, ending, dtype):
    source = an_image(counting(4, 3, 2), direction)
    case = read_case(written(tmp_path / f"image{ending}", source))
    labels = counting(4, 3, 2, dtype=dtype) * 10
    path = write_labels(tmp_path / f"labels{ending}", labels, case)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), labels)
    assert sitk.GetArrayFromImage(image).dtype == dtype
    for of in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(image, of)(), getattr(source, of)(), rtol=1e-12, atol=1e-12)
    back = read_case(path)
    np.testing.assert_array_equal(back.channels[0], labels)
    np.testing.assert_allclose(back.affine, case.affine, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(back.spacing_mm, case.spacing_mm, rtol=1e-12)


@pytest.mark.parametrize("ending", LABEL_ENDINGS)
@pytest.mark.parametrize("direction", [None, *DIRECTIONS.values()], ids=["no-affine", *DIRECTIONS])
def test_itk_sees_the_same_labels_in_a_nifti(tmp_path, direction, ending):
    affine = None
    if direction is not None:
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = direction * SPACING_XYZ, ORIGIN
    case = Case(np.zeros((1, 4, 3, 2), np.float32), SPACING_XYZ[::-1], affine)
    labels = counting(4, 3, 2, dtype=np.uint8)
    ours, nifti = (sitk.ReadImage(str(write_labels(tmp_path / f"a{end}", labels, case))) for end in (ending, ".nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(nifti))
    for of in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(ours, of)(), getattr(nifti, of)(), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("ending", LABEL_ENDINGS)
def test_planar_labels_are_planar_and_lie_where_nifti_has_them(tmp_path, ending):
    affine = np.array([[0, 0.75, 0, 12.5], [-0.5, 0, 0, -7.25], [0, 0, 1.0, 0], [0, 0, 0, 1]])
    case = Case(np.zeros((1, 1, 5, 7), np.float32), planar_spacing((0.75, 0.5)), affine, planar=True)
    labels = counting(1, 5, 7, dtype=np.uint8)
    ours, nifti = (sitk.ReadImage(str(write_labels(tmp_path / f"a{end}", labels, case))) for end in (ending, ".nii"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), labels[0])
    assert ours.GetSpacing() == (0.5, 0.75)
    assert ours.GetOrigin() == (-12.5, 7.25)
    assert ours.GetDirection() == (0.0, -1.0, 1.0, 0.0)
    for of in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(ours, of)(), getattr(nifti, of)(), rtol=1e-6)
    back = read_case(tmp_path / f"a{ending}")
    assert back.planar
    np.testing.assert_array_equal(back.affine, affine)


@pytest.mark.parametrize("ending", LABEL_ENDINGS)
def test_labels_of_a_nifti_as_itk_file_and_back(tmp_path, ending):
    affine = np.array([[0.0, -1.5, 0.0, 7.0], [0.6, 0.0, -2.4, -3.0], [0.8, 0.0, 1.8, 11.0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(counting(2, 3, 4), affine), tmp_path / "image.nii.gz")
    case = read_case(tmp_path / "image.nii.gz")
    back = read_case(write_labels(tmp_path / f"labels{ending}", case.channels[0].astype(np.uint8), case))
    np.testing.assert_array_equal(back.channels, case.channels)
    np.testing.assert_allclose(back.affine, case.affine, rtol=1e-12, atol=1e-12)


def test_labels_are_compressed(tmp_path):
    case = Case(np.zeros((1, 40, 50, 60), np.float32), (1.0, 1.0, 1.0))
    for ending in LABEL_ENDINGS:
        assert write_labels(tmp_path / f"a{ending}", np.zeros((40, 50, 60), np.uint8), case).stat().st_size < 2000


def test_labels_with_an_ending_in_capitals_are_one_file(tmp_path):
    case = Case(np.zeros((1, 4, 3, 2), np.float32), (1.0, 1.0, 1.0))
    for name in ("A.MHA", "B.NRRD"):
        write_labels(tmp_path / name, counting(4, 3, 2, dtype=np.uint8), case)
        np.testing.assert_array_equal(read_case(tmp_path / name).channels[0], counting(4, 3, 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A.MHA", "B.NRRD"]


@pytest.mark.parametrize("ending", LABEL_ENDINGS)
@pytest.mark.parametrize(
    ("affine", "options", "message"),
    [
        (np.diag([0.0, 1.0, 1.0, 1.0]), {}, r"the affine of knee has no inverse, which this format can't keep"),
        (
            [[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]],
            {"planar": True},
            "a 2D image of this format can't lie oblique in space as knee does",
        ),
    ],
    ids=["singular", "sagittal-plane"],
)
def test_a_place_that_itk_cannot_keep_is_known_before_the_run(tmp_path, ending, affine, options, message):
    case = Case(np.zeros((1, 1, 5, 7), np.float32), (1.0, 1.0, 1.0), np.array(affine), "knee", **options)
    check_output(tmp_path / f"a{ending}")
    for attempt in (check_output, lambda path, case: write_labels(path, np.zeros((1, 5, 7), np.uint8), case)):
        with pytest.raises(OutputError, match=rf"a{ending}: {message}"):
            attempt(tmp_path / f"a{ending}", case)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_is_an_output_error_and_leaves_the_old_file(tmp_path, monkeypatch):
    def full(self, image):
        raise RuntimeError("Exception thrown in SimpleITK\nITK ERROR: NrrdImageIO(0x5f): Write: no space left")

    monkeypatch.setattr(sitk.ImageFileWriter, "Execute", full)
    (tmp_path / "a.nrrd").write_bytes(b"old")
    case = Case(np.zeros((1, 4, 3, 2), np.float32), (1.0, 1.0, 1.0))
    with pytest.raises(OutputError, match=r"a\.nrrd can't be written: Write: no space left$"):
        write_labels(tmp_path / "a.nrrd", np.zeros((4, 3, 2), np.uint8), case)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.gipl"])
def test_a_missing_simpleitk_is_named_when_a_file_needs_it(tmp_path, monkeypatch, name):
    path = written(tmp_path / name, an_image(counting(4, 3, 2)))
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(CaseError, match=rf"^\S*{name} needs SimpleITK: pip install 'napari-nnunet-cpu\[itk\]'$"):
        read_case(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_a_missing_simpleitk_is_known_before_the_run(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    case = Case(np.zeros((1, 4, 3, 2), np.float32), (1.0, 1.0, 1.0))
    message = rf"^\S*{name} needs SimpleITK: pip install 'napari-nnunet-cpu\[itk\]'$"
    with pytest.raises(OutputError, match=message):
        check_output(tmp_path / name)
    with pytest.raises(OutputError, match=message):
        write_labels(tmp_path / name, np.zeros((4, 3, 2), np.uint8), case)
    check_output(tmp_path / "a.nii.gz", case)


def test_simpleitk_is_loaded_for_its_files_only(tmp_path):
    nifti = written(tmp_path / "a.nii", an_image(counting(4, 3, 2)))
    nrrd = written(tmp_path / "a.nrrd", an_image(counting(4, 3, 2)))
    code = (
        "import sys; from napari_nnunet_cpu import read_case\n"
        "for path in sys.argv[1:]: read_case(path); print('SimpleITK' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code, nifti, nrrd], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["False", "True"]


def test_a_header_of_spaces_ends(tmp_path):
    """Looking for the end of its last line took time with the cube of the spaces."""
    path = tmp_path / "a.mha"
    path.write_bytes(b"NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile =" + b" " * 100_000)
    with pytest.raises(CaseError, match="can't be read as MHA"):
        read_case(path)


HOSTILE = {  # these made ITK crash, hang, set memory aside or print on stderr
    "fewer axes than none": (b"NDims = 3", b"NDims = -3"),
    "more axes than ITK has room for": (b"NDims = 3", b"NDims = 1000"),
    "axes twice": (b"DimSize", b"NDims = 9\nDimSize"),
    "no axes": (b"NDims = 3", b"NDims = 0"),
    "axes in words": (b"NDims = 3", b"NDims = three"),
    "axes in other letters": (b"NDims", b"ndims"),
    "axes too late": (b"NDims = 3", b"Offset = 0 0 0\nNDims = 3"),
    "a size too few": (b"4 3 2", b"4 3"),
    "a size in words": (b"4 3 2", b"4 3 two"),
    "a negative size": (b"4 3 2", b"4 3 -2"),
    "a spacing too few": (b"DimSize", b"ElementSpacing = 1 1\nDimSize"),
    "a matrix too short": (b"DimSize", b"TransformMatrix = 1 0 0 0 1\nDimSize"),
    "an offset too long": (b"DimSize", b"Offset = " + b"0 " * 5000 + b"\nDimSize"),
    "a long comment": (b"NDims", b"Comment = " + b"x" * 5000 + b"\nNDims"),
    "a long key": (b"NDims", b"x" * 5000 + b" = 1\nNDims"),
    "a line without a value": (b"DimSize", b"hello\nDimSize"),
    "a zero byte": (b"DimSize", b"Name = a\0b\nDimSize"),
    "text that is too short": (b"BinaryData = True", b"BinaryData = False"),
    "more compressed bytes than there are": (b"NDims", b"CompressedData = True\nCompressedDataSize = 999\nNDims"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_headers_that_itk_cannot_bear_never_reach_it(tmp_path, monkeypatch, capfd, name):
    header, voxels = RAW_MHA[:-24], zlib.compress(bytes(range(24)))
    old, new = HOSTILE[name]
    assert old in header
    (tmp_path / "a.mha").write_bytes(header.replace(old, new) + voxels)
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", lambda self: pytest.fail("ITK was asked for the voxels"))
    with pytest.raises(CaseError, match=r"a\.mha (can't be read as MHA: it has no header|is (damaged or )?cut off: )"):
        read_case(tmp_path / "a.mha")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", [b"\x7f\xc0\0\0", b"\x7f\x80\0\0"], ids=["nan", "infinite"])
def test_a_gipl_without_a_spacing_is_refused_without_noise(tmp_path, capfd, value):
    content = bytearray(written(tmp_path / "a.gipl", an_image(counting(4, 3, 2))).read_bytes())
    content[14:18] = value
    (tmp_path / "a.gipl").write_bytes(content)
    with pytest.raises(CaseError, match=r"a\.gipl is damaged: its spacing \(x, y, z, t\) is \(0\.5, (nan|inf), 3\.0, "):
        read_case(tmp_path / "a.gipl")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("skip", "content"),
    [
        (b"", zlib.compress(bytes(range(10)), wbits=31) + zlib.compress(bytes(range(10, 24)), wbits=31)),
        (b"line skip: 2\n", b"one\ntwo\n" + zlib.compress(bytes(range(24)), wbits=31)),
        (b"byte skip: 2\n", zlib.compress(b"xx" + bytes(range(24)), wbits=31)),
        (b"byteskip: -1\n", zlib.compress(b"xxx" + bytes(range(24)), wbits=31)),
    ],
    ids=["members", "lines", "bytes", "all-before"],
)
def test_compressed_voxels_after_something_else_are_read_and_checked(tmp_path, skip, content):
    path = tmp_path / "a.nrrd"
    header = RAW_NRRD[:-24].replace(b"encoding: raw\n", b"encoding: gzip\n" + skip)
    path.write_bytes(header + content)
    np.testing.assert_array_equal(read_case(path).channels.ravel(), np.arange(24))
    path.write_bytes(header + content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    with pytest.raises(CaseError, match="is damaged: its compressed part"):
        read_case(path)


def test_a_nrrd_that_is_not_gzip_although_it_says_so_is_refused(tmp_path):
    """ITK takes the compressed bytes for the voxels."""
    path = tmp_path / "a.nrrd"
    path.write_bytes(RAW_NRRD[:-24].replace(b"raw", b"gzip") + zlib.compress(bytes(range(24))))
    with pytest.raises(CaseError, match="is damaged: its compressed part"):
        read_case(path)
