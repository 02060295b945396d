import errno
import os
import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile

from napari_nnunet_cpu import read_case
from napari_nnunet_cpu.cases import Case, read_labels, write_labels
from napari_nnunet_cpu.cases.case import planar_spacing
from napari_nnunet_cpu.cases.files import check_output, replacing
from napari_nnunet_cpu.errors import CaseError, OutputError

ENDINGS = [".nii", ".nii.gz", ".nrrd", ".mha", ".tif", ".tiff"]
VOXELS = np.arange(4 * 20 * 30, dtype=np.uint16).reshape(4, 20, 30)
CASE = Case(np.zeros((1, 4, 20, 30), np.float32), (3.0, 2.0, 1.0))


def an_image(path, affine=None, shape=(2, 3, 4), value=0):
    nib.save(nib.Nifti1Image(np.full(shape, value, np.int16), np.eye(4) if affine is None else affine), path)
    return path


def test_several_files_are_several_channels(tmp_path):
    paths = [an_image(tmp_path / f"p_000{i}.nii.gz", value=10 + i) for i in range(3)]
    case = read_case(*paths)
    assert case.channels.shape == (3, 4, 3, 2)
    assert case.channels[:, 0, 0, 0].tolist() == [10, 11, 12]
    assert case.name == "p_0000"


def test_a_path_may_be_text(tmp_path):
    assert read_case(str(an_image(tmp_path / "A.NII.GZ"))).name == "A"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"shape": (2, 3, 5)}, r"differ in shape \(Z, Y, X\): a \(4, 3, 2\), b \(5, 3, 2\)"),
        (
            {"affine": np.diag([1.0, 1.0, 2.0, 1.0])},
            r"differ in spacing .* a \(1.0, 1.0, 1.0\) mm, b \(2.0, 1.0",
        ),
        ({"affine": np.diag([-1.0, 1.0, 1.0, 1.0])}, "different places: b is up to 2 voxels away from a"),
    ],
    ids=["shape", "spacing", "affine"],
)
def test_files_on_different_grids_are_refused_by_name(tmp_path, second, message):
    with pytest.raises(CaseError, match=message):
        read_case(an_image(tmp_path / "a.nii"), an_image(tmp_path / "b.nii", **second))


def test_spacing_stated_by_the_user_wins(tmp_path):
    case = read_case(an_image(tmp_path / "a.nii", np.diag([2.0, 2.0, 2.0, 1.0])), spacing_mm=(5.0, 4.0, 3.0))
    assert case.spacing_mm == (5.0, 4.0, 3.0)
    np.testing.assert_array_equal(case.affine, np.diag([2.0, 2.0, 2.0, 1.0]))


def test_what_is_no_image_file_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(CaseError, match="no image given"):
        read_case()
    with pytest.raises(CaseError, match=r"missing\.nii is not a file"):
        read_case(tmp_path / "missing.nii")
    with pytest.raises(CaseError, match=r"folder\.nii is a folder; name the files of one case, a file per channel$"):
        read_case(tmp_path / "folder.nii")
    with pytest.raises(CaseError, match=r"a\.txt: unknown image format; use one of \.nii, \.nii\.gz, \.nrrd, .*\.bmp$"):
        read_case(tmp_path / "a.txt")
    with pytest.raises(CaseError, match="can't be read: File name too long"):
        read_case(tmp_path / ("a" * 300 + ".nii"))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98], ids="{:.0%}".format)
def test_a_truncated_file_is_a_case_error(tmp_path, ending, share):
    path = write_labels(tmp_path / f"a{ending}", np.random.default_rng(0).integers(0, 255, VOXELS.shape, "u1"), CASE)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        CaseError, match=rf"^\S*/a{ending} (can't be read as (NIfTI|NRRD|MHA|TIFF): .+|is (damaged or )?cut off.*)$"
    ):
        read_case(path)


@pytest.mark.parametrize(
    "options",
    [{"imagej": True}, {"ome": True}, {"compression": "zlib"}, {"metadata": None}],
    ids=lambda o: next(iter(o)),
)
def test_a_tiff_that_lost_its_last_pages_is_a_case_error(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.random.default_rng(0).integers(0, 255, VOXELS.shape, "u1"), photometric="minisblack", **options
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CaseError, match=r"a\.tif is damaged or cut off after page [12]; copy the file again"):
        read_case(path)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "content",
    [b"\0" * 5000, b"<!DOCTYPE html><html></html>" * 50, b"II*\0\x08\0\0\0", b"\x1f\x8b\x08\0garbage" * 100],
    ids=["zeros", "web-page", "tiff-magic", "gzip-magic"],
)
def test_garbage_is_a_case_error(tmp_path, ending, content):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(CaseError, match=r"can't be read as (NIfTI|NRRD|MHA|TIFF)|is damaged: its compressed part"):
        read_case(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_results_have_the_usual_permissions(tmp_path, ending):
    path = write_labels(tmp_path / f"a{ending}", VOXELS, CASE)
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == [f"a{ending}", "plain"]


@pytest.mark.parametrize(
    ("raised", "caught"), [(KeyError("x"), KeyError), (OSError(errno.ENOSPC, "No space left on device"), OutputError)]
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, raised, caught):
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(b"old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise raised

    with pytest.raises(caught):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["labels.nii.gz"]


def test_a_successful_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["labels.nii.gz"]


def test_where_labels_cannot_go_is_known_before_the_run(tmp_path):
    for name in ("a.txt", "a.bmp", "a.gipl"):
        with pytest.raises(
            OutputError, match=rf"{name}: unknown ending for labels; use one of \.nii, \.nii\.gz, \.nrrd"
        ):
            check_output(tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file is not a folder; choose another place than \S*file/b/a\.nii$"):
        check_output(tmp_path / "file" / "b" / "a.nii")
    check_output(tmp_path / "a.NII.GZ")


def test_the_folder_of_labels_is_made_when_they_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "a" / "b" / "labels.nii.gz", Path("c/labels.tif")):
        check_output(path)
        assert not path.parent.exists()
        np.testing.assert_array_equal(read_case(write_labels(path, VOXELS, CASE)).channels[0], VOXELS)


def test_a_folder_in_the_way_is_an_output_error(tmp_path):
    (tmp_path / "a.nii").mkdir()
    with pytest.raises(OutputError, match=r"a\.nii is a folder; name a file in it"):
        write_labels(tmp_path / "a.nii", VOXELS, CASE)
    assert os.listdir(tmp_path) == ["a.nii"]


def a_case(**options):
    return Case(np.zeros((1, 2, 3, 4), np.float32), (1.0, 1.0, 1.0), np.eye(4), **options)


def test_labels_are_read_onto_their_case(tmp_path):
    labels = np.arange(24, dtype=np.uint16).reshape(2, 3, 4) * 2000
    for ending in (".nii.gz", ".nrrd", ".tif"):
        path = write_labels(tmp_path / f"labels{ending}", labels, a_case())
        found = read_labels(path, a_case())
        np.testing.assert_array_equal(found, labels)
        assert found.dtype == np.int32


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha", ".tif", ".png"])
def test_labels_of_a_plane_come_back_from_every_format(tmp_path, ending):
    affine = np.diag([0.5, 0.5, 3.0, 1.0])  # as a 2D NIfTI has it
    case = Case(np.zeros((1, 1, 3, 4), np.float32), planar_spacing((0.5, 0.5)), affine, planar=True)
    labels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    path = write_labels(tmp_path / f"labels{ending}", labels, case)
    np.testing.assert_array_equal(read_labels(path, case), labels)


@pytest.mark.parametrize("value", [-1, 0.5, 65536, 1e20])
def test_what_is_no_label_is_refused(tmp_path, value):
    array = np.zeros((4, 3, 2), np.float64)
    array[1, 1, 1] = value
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "labels.nii")
    with pytest.raises(CaseError, match="must hold labels: one channel of whole numbers from 0 to 65535"):
        read_labels(tmp_path / "labels.nii", a_case())


def test_labels_of_another_grid_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 3, 2), np.uint8), np.diag([5, 5, 9, 1.0])), tmp_path / "labels.nii")
    with pytest.raises(CaseError, match="differ in spacing"):
        read_labels(tmp_path / "labels.nii", a_case())


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    labels = np.zeros((2, 3, 4), np.uint8)
    path = tmp_path / ("x" * 251 + ".nii")
    assert write_labels(path, labels, a_case()) == path
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OutputError, match="can't be written: File name too long"):
        write_labels(tmp_path / ("x" * 300 + ".nii"), labels, a_case())


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".tif", ".tiff", ".png"])
def test_an_ending_may_be_written_in_any_letters(tmp_path, ending):
    plane = ending == ".png"
    labels = VOXELS[:1] if plane else VOXELS
    case = Case(labels[None], planar_spacing((1.0, 1.0)) if plane else (3.0, 2.0, 1.0), planar=plane)
    odd = "".join(letter.upper() if place % 2 else letter for place, letter in enumerate(ending))
    for name in (ending.upper(), ending.title(), odd, ending[:-1] + ending[-1].upper()):
        path = write_labels(tmp_path / f"Scan{name}", labels, case)
        found = read_case(path)
        np.testing.assert_array_equal(found.channels[0], labels)
        assert found.name == "Scan"
        np.testing.assert_array_equal(read_labels(path, case), labels)
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
        path.unlink()


def test_readers_log_nothing_but_others_may(tmp_path, caplog):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOXELS, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack")
    path.write_bytes(path.read_bytes().replace(b'SizeZ="4"', b'SizeZ="3"'))
    read_case(path)
    assert caplog.records == []
    tifffile.imread(path)
    assert [record.name for record in caplog.records] == ["tifffile"]
