"""A file with a checksum that was changed in one bit, or cut off, is noticed, whatever compressed it."""

import gzip
import os
import random
import zlib

import nibabel as nib
import numpy as np
import pytest
import tifffile
from image_files import VOXELS, image_files, nifti

from napari_nnunet_cpu import read_case
from napari_nnunet_cpu.cases import Case, read_labels
from napari_nnunet_cpu.cases.case import planar_spacing
from napari_nnunet_cpu.cases.formats.decompressed import Decompressed, decompressed
from napari_nnunet_cpu.errors import CaseError

FLIPS = 200
FILES = image_files()
SUMMED = {
    "a.nii.gz": FILES["a.nii.gz"],
    "members.nii.gz": gzip.compress(nifti()[:1000]) + gzip.compress(nifti()[1000:]),
    "long-tail.nii.gz": gzip.compress(nifti() + bytes(5000)),
    "stored.nii.gz": gzip.compress(nifti(), 0),
    **{name: FILES[name] for name in ("gzip.nrrd", "zlib.mha", "grey.png", "colours.png", "zlib.tif", "lzma.tif")},
}


def summed(path):
    """The places of bytes that a checksum covers; headers as text, and a TIFF's directories, have none."""
    content = path.read_bytes()
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            pages = [*file.pages]
        return [
            place
            for page in pages
            for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)
            for place in range(start, start + length)
        ]
    start = {".nrrd": b"\n\n", ".mha": b"LOCAL\n"}.get(path.suffix, b"")
    return range(content.index(start) + len(start), len(content))


@pytest.mark.parametrize("name", SUMMED)
def test_no_flipped_bit_goes_unnoticed(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(SUMMED[name])
    sound, places, chance = read_case(path), summed(path), random.Random(name)
    errors = []
    for _ in range(FLIPS):
        content = bytearray(SUMMED[name])
        content[chance.choice(places)] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        try:
            case = read_case(path)
        except CaseError as error:
            errors.append(str(error))
        else:  # the time that gzip keeps, or what made the file
            np.testing.assert_array_equal(case.channels, sound.channels)
            np.testing.assert_array_equal(case.to_world, sound.to_world)
            assert case.spacing_mm == sound.spacing_mm
    assert len(errors) > 0.9 * FLIPS
    assert all(error.startswith(str(path)) for error in errors)


@pytest.mark.parametrize("name", SUMMED)
def test_no_lost_end_goes_unnoticed(tmp_path, name):
    path = tmp_path / name
    for lost in (1, 4, 8, 9, 100):
        path.write_bytes(SUMMED[name][:-lost])
        with pytest.raises(CaseError, match=r"damaged|cut off|can't be read"):
            read_case(path)


@pytest.mark.parametrize("change", [4, -8, -1], ids=["crc", "crc-start", "length"])
def test_the_damage_is_named_in_one_line(tmp_path, change):
    path = tmp_path / "a.nii.gz"
    content = bytearray(gzip.compress(nifti()))
    content[-change if change > 0 else change] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        CaseError, match=rf"^{path} is damaged: its compressed part .* \(.*incorrect (data|length) check\); copy"
    ):
        read_case(path)


def test_labels_are_looked_at_as_images_are(tmp_path):
    path = tmp_path / "labels.nii.gz"
    content = bytearray(gzip.compress(nifti(dtype=np.uint8)))
    content[-5] ^= 1
    path.write_bytes(content)
    case = Case(np.zeros((1, *VOXELS.shape), np.float32), (3.0, 2.0, 1.0), np.diag([1.0, 2.0, 3.0, 1.0]))
    with pytest.raises(CaseError, match="is damaged: its compressed part"):
        read_labels(path, case)


@pytest.mark.parametrize("tail", [b"\0" * 512, b"what a tape had before", b"\x1f"], ids=["zeros", "garbage", "a-byte"])
def test_what_follows_the_last_member_is_left_alone(tmp_path, tail):
    """As zlib does, and so ITK."""
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti()) + tail)
    np.testing.assert_array_equal(read_case(tmp_path / "a.nii.gz").channels[0], VOXELS)


def test_a_member_after_garbage_is_missed_by_the_voxels(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti()[:1000]) + b"xx" + gzip.compress(nifti()[1000:]))
    with pytest.raises(CaseError, match="can't be read as NIfTI: Expected 4800 bytes, got 648"):
        read_case(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_the_content_decides_whether_it_is_compressed(tmp_path, dtype):
    (tmp_path / "a.nii.gz").write_bytes(nifti(dtype=dtype))
    (tmp_path / "b.nii").write_bytes(gzip.compress(nifti(dtype=dtype)))
    for name in ("a.nii.gz", "b.nii"):
        case = read_case(tmp_path / name)
        np.testing.assert_array_equal(case.channels[0], VOXELS)
        assert case.channels.dtype == dtype
        assert case.name == name[0]


def test_voxels_are_decompressed_once_and_into_their_place(tmp_path, monkeypatch):
    array = np.random.default_rng(0).integers(0, 9, (90, 80, 70), np.int16)
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    parts = []
    part = Decompressed._part
    monkeypatch.setattr(Decompressed, "_part", lambda self, most: parts.append(part(self, most)) or parts[-1])
    np.testing.assert_array_equal(read_case(path).channels[0], array.T)
    assert sum(map(len, parts)) < array.nbytes + 1000
    assert max(map(len, parts)) <= 1 << 20


def test_any_place_of_the_content_can_be_sought(tmp_path):
    content = os.urandom(300_000) + bytes(3_000_000)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(content[:150_000]) + gzip.compress(content[150_000:]))
    chance = random.Random(0)
    with decompressed(path) as file:
        for _ in range(30):
            start, length = chance.randrange(len(content) + 9), chance.choice([0, 1, 100, 400_000])
            file.seek(start)
            assert file.read(length) == content[start : start + length]
            assert file.tell() == min(start + length, max(start, len(content)), len(content))
        assert file.finish() == len(content)
        assert file.read(5) == b""


def test_damage_explains_what_fails_before_the_checksum(tmp_path):
    path = tmp_path / "a.gz"
    content = bytearray(gzip.compress(os.urandom(300_000)))
    content[-8] ^= 1
    path.write_bytes(content)

    def read_badly():
        with decompressed(path) as file:
            file.read(10)
            raise ZeroDivisionError

    with pytest.raises(CaseError, match="is damaged: its compressed part") as caught:
        read_badly()
    assert isinstance(caught.value.__cause__, zlib.error)


def test_planes_of_a_damaged_png(tmp_path):
    """Its last row is whole, and Pillow gives it away."""
    path = tmp_path / "a.png"
    content = bytearray(FILES["grey.png"])
    content[content.index(b"IEND") - 5] ^= 1  # the checksum of the pixels
    path.write_bytes(content)
    with pytest.raises(CaseError, match=r"a\.png is damaged or cut off: a part of it does not fit its checksum"):
        read_case(path)
    path.write_bytes(FILES["grey.png"])
    assert read_case(path).spacing_mm == planar_spacing((1.0, 1.0))
