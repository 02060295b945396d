import struct
import zlib

import numpy as np
import pytest
import skimage.io
from PIL import Image

from napari_nnunet_cpu import read_case
from napari_nnunet_cpu.cases import Case, write_labels
from napari_nnunet_cpu.cases.case import SpacingSource, planar_spacing
from napari_nnunet_cpu.cases.files import check_output
from napari_nnunet_cpu.errors import CaseError, OutputError

NOISE = np.random.default_rng(0)
GREY = NOISE.integers(0, 256, (5, 7), np.uint8)
DEEP = NOISE.integers(0, 65536, (5, 7), np.uint16)
COLOUR = NOISE.integers(0, 256, (5, 7, 3), np.uint8)
CLEAR = NOISE.integers(0, 256, (5, 7, 4), np.uint8)
PALETTE = Image.fromarray(COLOUR).quantize(9)
TURNED = Image.Exif()
TURNED[0x0112] = 6  # held upright, so that a viewer shows it turned by 90 degrees

# Name: what is saved, how, and the values that are read, of shape (C, Y, X); None for a lossy format.
KINDS = {
    "grey.png": (GREY, {}, GREY[None]),
    "grey-of-16-bits.png": (DEEP, {}, DEEP[None]),
    "black-and-white.png": (GREY > 99, {}, (GREY > 99)[None]),
    "rgb.png": (COLOUR, {}, COLOUR.transpose(2, 0, 1)),
    "rgba.png": (CLEAR, {}, CLEAR.transpose(2, 0, 1)),
    "palette.png": (PALETTE, {}, np.asarray(PALETTE.convert("RGB")).transpose(2, 0, 1)),
    "palette-of-1-bit.png": (
        Image.fromarray(COLOUR).quantize(2), {"bits": 1},
        np.asarray(Image.fromarray(COLOUR).quantize(2).convert("RGB")).transpose(2, 0, 1),
    ),
    "palette-one-clear.png": (PALETTE, {"transparency": 3}, np.asarray(PALETTE.convert("RGB")).transpose(2, 0, 1)),
    "palette-all-clear.png": (
        PALETTE, {"transparency": bytes(range(9))}, np.asarray(PALETTE.convert("RGB")).transpose(2, 0, 1)
    ),
    "rgb-one-clear.png": (COLOUR, {"transparency": tuple(COLOUR[0, 0].tolist())}, COLOUR.transpose(2, 0, 1)),
    "turned.png": (COLOUR, {"exif": TURNED}, COLOUR.transpose(2, 0, 1)),
    "grey.bmp": (GREY, {}, GREY[None]),
    "black-and-white.bmp": (GREY > 99, {}, (GREY > 99)[None]),
    "rgb.bmp": (COLOUR, {}, COLOUR.transpose(2, 0, 1)),
    "palette.bmp": (PALETTE, {}, np.asarray(PALETTE.convert("RGB")).transpose(2, 0, 1)),
    "grey.jpg": (GREY, {}, None),
    "rgb.jpeg": (COLOUR, {}, None),
    "turned.jpg": (COLOUR, {"exif": TURNED}, None),
}  # fmt: skip


def written(path, pixels, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def a_png(width, height, bits, colour, rows):
    """A PNG file whose header says what it is told to."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)), (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    ]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")  # what nnU-Net's reader says
@pytest.mark.parametrize("name", KINDS)
def test_values_are_those_of_nnunets_reader(tmp_path, name):
    pixels, options, expected = KINDS[name]
    path = written(tmp_path / name, pixels, **options)
    case = read_case(path)
    seen = skimage.io.imread(path)
    seen = seen[None] if seen.ndim == 2 else seen.transpose(2, 0, 1)
    np.testing.assert_array_equal(case.channels, seen[:, None])
    if expected is not None:
        np.testing.assert_array_equal(case.channels, expected[:, None])
    assert case.channels.dtype == seen.dtype


def test_a_natural_image_is_planar_without_a_known_spacing(tmp_path):
    case = read_case(written(tmp_path / "photo.png", COLOUR, dpi=(300, 300)))
    assert case.channels.shape == (3, 1, 5, 7)
    assert (case.name, case.planar, case.spacing_mm) == ("photo", True, (999.0, 1.0, 1.0))
    assert case.spacing_source is SpacingSource.ASSUMED
    assert case.affine is None
    assert read_case(tmp_path / "photo.png", spacing_mm=(1.0, 0.5, 0.25)).spacing_mm == (499.5, 0.5, 0.25)


def test_a_jpeg_is_close_to_what_was_saved(tmp_path):
    smooth = np.add.outer(np.arange(16) * 5, np.arange(24) * 3).astype(np.uint8)
    case = read_case(written(tmp_path / "a.jpg", smooth, quality=95))
    assert case.channels.shape == (1, 1, 16, 24)
    np.testing.assert_allclose(case.channels[0, 0], smooth, atol=3)


def test_content_decides_and_not_the_ending(tmp_path):
    path = written(tmp_path / "a.png", GREY, format="BMP")
    np.testing.assert_array_equal(read_case(path).channels[0, 0], GREY)
    path = written(tmp_path / "B.JPG", GREY, format="PNG")
    np.testing.assert_array_equal(read_case(path).channels[0, 0], GREY)
    path = written(tmp_path / "c.png", GREY, format="GIF")
    with pytest.raises(CaseError, match=r"c\.png can't be read as an image: it is not a PNG, JPEG or BMP file"):
        read_case(path)


def test_files_of_several_kinds_are_channels_in_order(tmp_path):
    case = read_case(written(tmp_path / "a.png", COLOUR), written(tmp_path / "b.bmp", GREY))
    np.testing.assert_array_equal(case.channels[:, 0], [*COLOUR.transpose(2, 0, 1), GREY])
    with pytest.raises(CaseError, match=r"differ in shape \(Z, Y, X\): a \(1, 5, 7\), c \(1, 7, 5\)"):
        read_case(tmp_path / "a.png", written(tmp_path / "c.png", GREY.T))


def test_an_animation_of_one_image_is_an_image(tmp_path):
    path = written(tmp_path / "a.png", COLOUR, save_all=True)
    np.testing.assert_array_equal(read_case(path).channels[:, 0], COLOUR.transpose(2, 0, 1))


def test_an_animation_is_refused(tmp_path):
    path = written(
        tmp_path / "a.png", GREY, save_all=True, append_images=[Image.fromarray(g) for g in (GREY // 2, 255 - GREY)]
    )
    with pytest.raises(CaseError, match=r"a\.png is an animation of 3 images; save one of them"):
        read_case(path)


@pytest.mark.parametrize(
    ("name", "mode", "pixels"), [("a.png", "LA", CLEAR[..., :2]), ("a.jpg", "CMYK", CLEAR)], ids=["LA", "CMYK"]
)
def test_other_kinds_of_pixels_are_refused_by_name(tmp_path, name, mode, pixels):
    size, content = pixels.shape[1::-1], np.ascontiguousarray(pixels).tobytes()
    path = written(tmp_path / name, Image.frombytes(mode, size, content))
    with pytest.raises(CaseError, match=f"has pixels of kind {mode}; save it as grey, RGB or RGBA"):
        read_case(path)


@pytest.mark.parametrize("name", ["grey.png", "rgb.jpeg", "rgb.bmp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7], ids="{:.0%}".format)
def test_a_truncated_file_is_a_case_error(tmp_path, name, share):
    path = written(tmp_path / name, NOISE.integers(0, 256, (50, 70, 3), np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CaseError, match=rf"^\S*/{name} (can't be read as an image: .+|is damaged or cut off: .+)$"):
        read_case(path)


@pytest.mark.parametrize("name", ["a.png", "a.bmp"])
def test_an_image_beyond_pillows_own_bound_is_read(tmp_path, monkeypatch, name):
    path = written(tmp_path / name, np.zeros((300, 400), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError), Image.open(path):
        pass
    assert read_case(path).channels.shape == (1, 1, 300, 400)


@pytest.mark.parametrize(("bits", "colour"), [(1, 0), (2, 0), (8, 0), (16, 0), (8, 2), (8, 6)])
def test_the_emptiest_honest_png_is_read(tmp_path, bits, colour):
    samples = {0: 1, 2: 3, 6: 4}[colour]
    row = 1 + 2048 * bits * samples // 8
    (tmp_path / "a.png").write_bytes(a_png(2048, 1024, bits, colour, bytes(row * 1024)))
    case = read_case(tmp_path / "a.png")
    assert case.channels.shape == (samples, 1, 1024, 2048)
    assert not case.channels.any()


@pytest.mark.parametrize(("bits", "colour"), [(1, 0), (8, 0), (8, 2), (16, 0)])
def test_a_header_that_declares_a_giant_gets_no_memory(tmp_path, bits, colour):
    (tmp_path / "a.png").write_bytes(a_png(100_000, 100_000, bits, colour, bytes(100)))
    with pytest.raises(
        CaseError, match=r"a\.png is damaged or cut off: its header declares .*e\+\d+ bytes of voxels, which"
    ):
        read_case(tmp_path / "a.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8-bit", "16-bit"])
@pytest.mark.parametrize("name", ["labels.png", "LABELS.PNG"])
def test_labels_come_back(tmp_path, name, dtype):
    case = Case(np.zeros((1, 1, 5, 7), np.float32), planar_spacing((1.0, 1.0)), planar=True)
    labels = (np.arange(35).reshape(1, 5, 7) * np.iinfo(dtype).max // 34).astype(dtype)
    path = write_labels(tmp_path / name, labels, case)
    with Image.open(path) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), labels[0])
    np.testing.assert_array_equal(skimage.io.imread(path), labels[0])
    back = read_case(path)
    np.testing.assert_array_equal(back.channels[0], labels)
    assert (back.channels.dtype, back.planar) == (dtype, True)


def test_labels_of_a_volume_are_no_png_and_that_is_known_before_the_run(tmp_path):
    volume = Case(np.zeros((1, 2, 5, 7), np.float32), (1.0, 1.0, 1.0), name="knee")
    slice_ = Case(np.zeros((1, 1, 5, 7), np.float32), (999.0, 1.0, 1.0), planar=True)
    check_output(tmp_path / "a.png")
    check_output(tmp_path / "a.png", slice_)
    for attempt in (check_output, lambda path, case: write_labels(path, np.zeros((2, 5, 7), np.uint8), case)):
        with pytest.raises(
            OutputError, match=r"a\.png: knee is a volume, which can't be written as PNG; use \.nii\.gz"
        ):
            attempt(tmp_path / "a.png", volume)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG"])
def test_labels_are_not_written_as_jpeg(tmp_path, name):
    with pytest.raises(OutputError, match=rf"{name}: JPEG would change labels; use one of \.nii, .*, \.png$"):
        check_output(tmp_path / name)
