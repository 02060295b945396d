import json
import re
import struct

import numpy as np
import pytest
import tifffile

from napari_nnunet_cpu import read_case
from napari_nnunet_cpu.cases import Case, write_labels
from napari_nnunet_cpu.cases.case import SpacingSource, planar_spacing
from napari_nnunet_cpu.errors import CaseError, SettingsError

STACK = np.arange(2 * 30 * 40, dtype=np.uint16).reshape(2, 30, 40)


def written(path, array, **options):
    tifffile.imwrite(path, array, **options)
    return path


def test_a_plain_stack_has_depth_and_no_known_spacing(tmp_path):
    case = read_case(written(tmp_path / "cells.tif", STACK))
    np.testing.assert_array_equal(case.channels, STACK[None])
    assert (case.name, case.spacing_mm, case.spacing_known) == ("cells", (1.0, 1.0, 1.0), False)
    assert case.affine is None


def test_pages_without_axes_are_depth(tmp_path):
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for page in STACK:
            file.write(page, metadata=None, contiguous=False)
    case = read_case(tmp_path / "pages.tif")
    np.testing.assert_array_equal(case.channels, STACK[None])
    assert not case.planar


@pytest.mark.parametrize("shape", [(1, 30, 40), (1, 1, 40), (2, 1, 1)])
def test_a_stack_whose_file_names_its_depth_is_a_volume_however_thin(tmp_path, shape):
    stack = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    case = read_case(written(tmp_path / "thin.tif", stack, metadata={"axes": "ZYX"}))
    assert not case.planar
    np.testing.assert_array_equal(case.channels, stack[None])


def test_a_planar_file_gets_nnunets_thickness(tmp_path):
    case = read_case(written(tmp_path / "cells.tiff", STACK[0]))
    np.testing.assert_array_equal(case.channels, STACK[None, :1])
    assert (case.planar, case.spacing_mm, case.spacing_known) == (True, (999.0, 1.0, 1.0), False)


@pytest.mark.parametrize("samples", [3, 4], ids=["RGB", "RGBA"])
def test_colours_are_channels(tmp_path, samples):
    image = np.arange(30 * 40 * samples, dtype=np.uint8).reshape(30, 40, samples)
    options = {} if samples == 3 else {"extrasamples": ["unassalpha"]}
    case = read_case(written(tmp_path / "photo.tif", image, photometric="rgb", **options))
    assert case.planar
    np.testing.assert_array_equal(case.channels, np.moveaxis(image, -1, 0)[:, None])


def test_colour_pages_have_channels_and_depth(tmp_path):
    image = np.arange(2 * 30 * 40 * 3, dtype=np.uint8).reshape(2, 30, 40, 3)
    case = read_case(written(tmp_path / "photos.tif", image, photometric="rgb"))
    np.testing.assert_array_equal(case.channels, np.moveaxis(image, -1, 0))


@pytest.mark.parametrize(
    ("unit", "scale"),
    [("um", 1e-3), ("micron", 1e-3), ("\\u00B5m", 1e-3), ("mm", 1.0), ("cm", 10.0), ("inch", 25.4), ("nm", 1e-6)],
)
def test_imagej_spacing(tmp_path, unit, scale):
    path = written(
        tmp_path / "a.tif", STACK, imagej=True, resolution=(1 / 0.25, 1 / 0.5),
        metadata={"axes": "ZYX", "spacing": 1.5, "unit": unit},
    )  # fmt: skip
    case = read_case(path)
    np.testing.assert_allclose(case.spacing_mm, np.array([1.5, 0.5, 0.25]) * scale, rtol=1e-6)
    assert case.spacing_known
    np.testing.assert_array_equal(case.channels, STACK[None])


@pytest.mark.parametrize(
    "options",
    [
        {"resolution": (4, 4), "metadata": {"axes": "ZYX", "spacing": 1.5}},
        {"resolution": (4, 4), "metadata": {"axes": "ZYX", "spacing": 1.5, "unit": "pixel"}},
    ],
    ids=["no-unit", "pixels"],
)
def test_imagej_without_a_length_has_no_known_spacing(tmp_path, options):
    case = read_case(written(tmp_path / "a.tif", STACK, imagej=True, **options))
    assert (case.spacing_mm, case.spacing_known) == ((1.0, 1.0, 1.0), False)


def test_imagej_hyperstack_has_channels(tmp_path):
    array = np.arange(2 * 3 * 30 * 40, dtype=np.uint16).reshape(2, 3, 30, 40)
    case = read_case(written(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "ZCYX"}))
    np.testing.assert_array_equal(case.channels, array.transpose(1, 0, 2, 3))


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.5}, (1.5e-3, 0.5e-3, 0.25e-3)),
        (
            {
                "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm",
                "PhysicalSizeZ": 0.0015, "PhysicalSizeZUnit": "mm",
            },
            (1.5e-3, 0.5e-3, 0.25e-3),
        ),
        ({"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}, (0.5e-3, 0.5e-3, 0.25e-3)),
        ({"PhysicalSizeZ": 1.5}, None),
        ({"PhysicalSizeX": 1, "PhysicalSizeXUnit": "pixel", "PhysicalSizeY": 1, "PhysicalSizeYUnit": "pixel"}, None),
        ({}, None),
    ],
    ids=["microns", "mixed-units", "no-depth", "depth-alone", "pixels", "nothing"],
)  # fmt: skip
def test_ome_spacing(tmp_path, metadata, expected):
    case = read_case(written(tmp_path / "a.ome.tif", STACK, ome=True, metadata={"axes": "ZYX"} | metadata))
    np.testing.assert_array_equal(case.channels, STACK[None])
    assert case.spacing_source == (SpacingSource.ASSUMED if expected is None else SpacingSource.PIXEL_SIZE)
    np.testing.assert_allclose(case.spacing_mm, expected or (1.0, 1.0, 1.0), rtol=1e-12)


def test_ome_channels_come_first(tmp_path):
    array = np.arange(2 * 3 * 30 * 40, dtype=np.uint16).reshape(2, 3, 30, 40)
    case = read_case(written(tmp_path / "a.ome.tif", array, ome=True, metadata={"axes": "CZYX"}))
    np.testing.assert_array_equal(case.channels, array)


@pytest.mark.parametrize(("image", "sidecar"), [("case_0000.tif", "case.json"), ("case.tif", "case.json")])
def test_nnunets_sidecar_is_believed_first(tmp_path, image, sidecar):
    (tmp_path / sidecar).write_text(json.dumps({"spacing": [2.0, 0.5, 0.25]}))
    path = written(
        tmp_path / image, STACK, imagej=True, resolution=(1, 1),
        metadata={"axes": "ZYX", "unit": "mm", "spacing": 9},
    )  # fmt: skip
    case = read_case(path)
    assert (case.spacing_mm, case.spacing_known) == ((2.0, 0.5, 0.25), True)


@pytest.mark.parametrize(
    "content",
    ["{", '{"spacing": 1}', '{"spacing": [1, 2]}', '{"spacing": [1, "a", 1]}', "[" * 10_000],
    ids=["no-json", "number", "two", "text", "deep"],
)
def test_a_sidecar_that_says_nothing_is_named(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    path = written(tmp_path / "a.tif", STACK)
    with pytest.raises(CaseError, match=r'^\S*/a\.json must hold \{"spacing": \[z, y, x\]\}: '):
        read_case(path)


@pytest.mark.parametrize("axes", ["TYX", "TZYX", "TCYX"])
def test_a_time_series_is_refused(tmp_path, axes):
    array = np.zeros((2,) * (len(axes) - 2) + (30, 40), np.uint16)
    path = written(tmp_path / "film.tif", array, imagej=True, metadata={"axes": axes})
    with pytest.raises(
        CaseError, match=rf"film\.tif is a time series \(axes {axes}.*save one time point.*Z,Y,X or C,Y,X"
    ):
        read_case(path)


def test_one_time_point_is_an_image(tmp_path):
    path = written(tmp_path / "a.tif", STACK[None], imagej=True, metadata={"axes": "TZYX"})
    np.testing.assert_array_equal(read_case(path).channels, STACK[None])


@pytest.mark.parametrize(
    "options",
    [{"compression": "zlib"}, {"tile": (16, 16)}, {"tile": (16, 16), "compression": "zlib"}, {"rowsperstrip": 7}],
    ids=["strips", "raw-tiles", "tiles", "many-strips"],
)
def test_a_page_larger_than_its_strips_gets_no_memory(tmp_path, monkeypatch, options):
    path = written(tmp_path / "a.tif", STACK[0], **options)
    np.testing.assert_array_equal(read_case(path).channels[0], STACK[:1])
    with tifffile.TiffFile(path) as file:
        places = {name: file.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")}
        kind = {3: "<H", 4: "<I"}[file.pages[0].tags["ImageWidth"].dtype]
    content = bytearray(path.read_bytes())
    for place in places.values():
        struct.pack_into(kind, content, place, 60000)
    path.write_bytes(content)
    monkeypatch.setattr(np, "zeros", lambda *_: pytest.fail("memory was set aside"))
    with pytest.raises(CaseError, match=r"a\.tif (is damaged: a page of shape \(60000, 60000\) has|can't be read)"):
        read_case(path)


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"tile": (16, 16), "compression": "zlib"}])
def test_compressed_pages_of_separate_colours_are_read(tmp_path, options):
    image = np.arange(2 * 3 * 30 * 40, dtype=np.uint16).reshape(2, 3, 30, 40)
    case = read_case(written(tmp_path / "a.tif", image, photometric="rgb", planarconfig="separate", **options))
    np.testing.assert_array_equal(case.channels, image.transpose(1, 0, 2, 3))


def test_two_nameless_axes_are_refused(tmp_path):
    path = written(tmp_path / "a.tif", np.zeros((2, 3, 30, 40), np.uint16), photometric="minisblack")
    with pytest.raises(CaseError, match="has axes QQYX; an image needs axes out of C, Z, Y, X, each once"):
        read_case(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8-bit", "16-bit"])
@pytest.mark.parametrize("source", [SpacingSource.PIXEL_SIZE, SpacingSource.ASSUMED])
def test_labels_come_back(tmp_path, dtype, source):
    spacing = (1.0, 1.0, 1.0) if source is SpacingSource.ASSUMED else (2.5, 0.7, 0.3)
    case = Case(np.zeros((1, *STACK.shape), np.float32), spacing, spacing_source=source)
    labels = (STACK % 251).astype(dtype)
    back = read_case(write_labels(tmp_path / "labels.tif", labels, case))
    np.testing.assert_array_equal(back.channels[0], labels)
    assert (back.channels.dtype, back.spacing_source) == (dtype, source)
    np.testing.assert_allclose(back.spacing_mm, spacing, rtol=1e-6)


def test_labels_as_narrow_as_colours_come_back(tmp_path):
    labels = np.arange(2 * 30 * 3, dtype=np.uint8).reshape(2, 30, 3)
    path = write_labels(tmp_path / "labels.tif", labels, Case(labels[None], (1.0, 1.0, 1.0)))
    np.testing.assert_array_equal(tifffile.imread(path), labels)


def test_planar_labels_come_back(tmp_path):
    case = Case(np.zeros((1, 1, 30, 40), np.float32), planar_spacing((0.7, 0.3)), planar=True)
    labels = (STACK[:1] % 251).astype(np.uint8)
    path = write_labels(tmp_path / "labels.tif", labels, case)
    assert tifffile.imread(path).shape == (30, 40)
    back = read_case(path)
    np.testing.assert_array_equal(back.channels[0], labels)
    assert back.planar
    np.testing.assert_allclose(back.spacing_mm, (699.3, 0.7, 0.3), rtol=1e-6)


@pytest.mark.parametrize("content", ["{}", "[]", '{"tiles": 3}', '{"spacing": [9, 9, 9]' + " " * 2**21 + "}"])
def test_a_json_file_about_something_else_is_left_alone(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert read_case(written(tmp_path / "a.tif", STACK)).spacing_source is SpacingSource.ASSUMED


@pytest.mark.parametrize("compression", ["lzw", "packbits", "zlib", "zstd", "lzma", "jpeg2000", "jpeg"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"rowsperstrip": 8}], ids=["page", "tiles", "strips"])
def test_every_usual_compression_is_decoded(tmp_path, compression, options):
    smooth = (STACK // 10).astype(np.uint8)
    case = read_case(written(tmp_path / "a.tif", smooth, compression=compression, **options))
    np.testing.assert_allclose(case.channels[0].astype(int), smooth, atol=3 if compression == "jpeg" else 0)


@pytest.mark.parametrize("compression", ["lzw", "packbits", "zlib", "zstd"])
def test_the_emptiest_honest_file_is_read(tmp_path, compression):
    path = written(tmp_path / "a.tif", np.zeros((2000, 3000), np.uint16), compression=compression, rowsperstrip=2000)
    assert read_case(path).channels.shape == (1, 1, 2000, 3000)


def test_tiles_that_a_file_leaves_out_are_empty(tmp_path):
    image = np.arange(2560 * 2560, dtype=np.uint32).reshape(2560, 2560)
    path = written(tmp_path / "a.tif", image, tile=(256, 256), compression="zlib")
    with tifffile.TiffFile(path) as file:
        lengths = file.pages.first.tags["TileByteCounts"]
        kept = [length if number == 5 else 0 for number, length in enumerate(lengths.value)]
        place, kind = lengths.valueoffset, {3: "H", 4: "I"}[lengths.dtype]
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{len(kept)}{kind}", content, place, *kept)
    path.write_bytes(content)
    image[256:] = image[:, : 5 * 256] = image[:, 6 * 256 :] = 0
    np.testing.assert_array_equal(read_case(path).channels[0, 0], image)


@pytest.mark.parametrize(
    ("tagged", "shape", "axes", "order"),
    [
        ("TYX", (5, 30, 40), "Z,Y,X", (0, 1, 2)),
        ("CYX", (5, 30, 40), "z y x", (0, 1, 2)),
        ("ZYX", (5, 30, 40), "CYX", (0, 1, 2)),
        ("TCYX", (5, 2, 30, 40), "Z,C,Y,X", (1, 0, 2, 3)),
        ("TZYX", (2, 5, 30, 40), "C, Z, Y, X", (0, 1, 2, 3)),
        ("TZCYX", (1, 5, 2, 30, 40), "C,Z,Y,X", (0, 1, 2, 3)),
        ("QYX", (5, 30, 40), "CYX", (0, 1, 2)),
    ],
)
def test_axes_that_the_user_states_win(tmp_path, tagged, shape, axes, order):
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    options = {} if "Q" in tagged else {"imagej": True, "metadata": {"axes": tagged}}
    case = read_case(written(tmp_path / "a.tif", array, photometric="minisblack", **options), axes=axes)
    expected = array.squeeze().transpose(order)
    expected = expected if expected.ndim == 4 else expected[None] if "Z" in axes.upper() else expected[:, None]
    np.testing.assert_array_equal(case.channels, expected)
    assert case.planar == ("Z" not in axes.upper())


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("Y,X", r"axes are 'Y,X', that is 2 axes, but the image has 3, of shape \(2, 30, 40\)"),
        ("Q,Y,X", "Q is not one of T, C, Z, Y, X$"),
        ("S,A,R", "S is not one of T, C, Z, Y, X$"),
        ("Y,Y,X", "Y twice"),
        ("", "write a letter for each axis"),
        ("X,Y,Z", "a file has Y and X, or Z, Y and X, in this order and forwards"),
        ("-Z,Y,X", "in this order and forwards"),
        ("Z,C,X", "in this order and forwards"),
    ],
)
def test_axes_that_are_none_of_the_file_are_refused(tmp_path, axes, message):
    path = written(tmp_path / "a.tif", STACK)
    with pytest.raises(SettingsError, match=message):
        read_case(path, axes=axes)


def test_axes_are_for_tiff_alone(tmp_path):
    path = write_labels(
        tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8), Case(np.zeros((1, 2, 3, 4)), (1.0, 1.0, 1.0))
    )
    with pytest.raises(SettingsError, match=r"a\.nii: axes can be stated for TIFF files alone"):
        read_case(path, axes="Z,Y,X")


def test_time_that_the_user_states_is_time(tmp_path):
    with pytest.raises(CaseError, match="is a time series"):
        read_case(written(tmp_path / "a.tif", STACK), axes="T,Y,X")


def ome(path, *changes):
    """A stack whose OME metadata were changed: each pattern replaced."""
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.5}
    tifffile.imwrite(path, STACK, ome=True, metadata={"axes": "ZYX"} | sizes)
    with tifffile.TiffFile(path) as file:
        text = file.ome_metadata
    for pattern, replacement in changes:
        changed = re.sub(pattern, replacement, text, flags=re.DOTALL)
        assert changed != text
        text = changed
    return written(path, STACK, description=text.encode(), metadata=None)


@pytest.mark.parametrize(
    "change",
    [
        ("</Pixels>", ""), ("<Image ", "<Image Note='a & b' "), ("<Image ", "<Image Note='\x01' "),
        (".{40}$", "</OME>"), (' SizeX="40"', ""),
        ('SizeZ="2"', 'SizeZ="2,0"'), ('SizeZ="2"', 'SizeZ="4000000000"'),
        ('DimensionOrder="XYCZT"', ""), ('DimensionOrder="XYCZT"', 'DimensionOrder="ABC"'),
        ('IFD="0"', 'IFD="x"'), ('PlaneCount="2"', 'PlaneCount="many"'), ("<Pixels.*</Pixels>", ""),
        ("^.*<OME", '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><OME'),
    ],
)  # fmt: skip
def test_metadata_that_are_not_well_formed_leave_the_pixels(tmp_path, change, capfd):
    case = read_case(ome(tmp_path / "a.ome.tif", change))
    np.testing.assert_array_equal(case.channels, STACK[None])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("written_as", "read_as"),
    [
        ("0,25", 0.25), ("0,325", 0.325), ("12,5", 12.5), ("1,2345", 1.2345), ("+0,25", 0.25), ("2,5e-1", 0.25),
        (" 0.25 ", 0.25), ("1,234", None), ("1,234.5", None), ("1.234,5", None), ("1,2,3", None), ("", None),
        ("a", None), ("NaN", None), ("0", None), ("-0,5", 0.5),
    ],
)  # fmt: skip
def test_sizes_with_a_comma(tmp_path, written_as, read_as):
    """A comma before decimals is clear unless it could part thousands; then nothing is known."""
    case = read_case(ome(tmp_path / "a.ome.tif", ('PhysicalSizeX="0.25"', f'PhysicalSizeX="{written_as}"')))
    np.testing.assert_array_equal(case.channels, STACK[None])
    expected = (1.0, 1.0, 1.0) if read_as is None else (1.5e-3, 0.5e-3, read_as * 1e-3)
    np.testing.assert_allclose(case.spacing_mm, expected, rtol=1e-12)
    assert case.spacing_known == (read_as is not None)


@pytest.mark.parametrize("change", [('SizeZ="2"', 'SizeZ="5"'), ('SizeC="1"', 'SizeC="3"')], ids=["Z", "C"])
def test_pages_that_metadata_describe_and_the_file_has_not_are_no_zeros(tmp_path, change):
    path = ome(tmp_path / "a.ome.tif", change)
    with pytest.raises(CaseError, match=r"[56] pages, but [34] of them are neither in it nor in files beside it"):
        read_case(path)
    np.testing.assert_array_equal(read_case(path, axes="Z,Y,X").channels, STACK[None])


def test_a_stack_whose_first_page_stands_for_all_is_read(tmp_path):
    """As ImageJ writes stacks of more than 4 GB."""
    path = written(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "ZYX"})
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        first = file.pages.first.offset
    (tags,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * tags, 0)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_case(path).channels, STACK[None])


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize(("page", "following"), [(page, back) for page in range(4) for back in range(page + 1)])
def test_a_chain_of_pages_that_goes_back_is_an_error(tmp_path, page, following, byteorder, bigtiff):
    pages = np.zeros((4, 30, 40), np.uint8)
    path = written(tmp_path / "a.tif", pages, photometric="minisblack", byteorder=byteorder, bigtiff=bigtiff)
    with tifffile.TiffFile(path) as file:
        layout, places = file.tiff, [part.offset for part in file.pages]
    content = bytearray(path.read_bytes())
    (tags,) = struct.unpack_from(layout.tagnoformat, content, places[page])
    end = places[page] + layout.tagnosize + tags * layout.tagsize
    struct.pack_into(layout.offsetformat, content, end, places[following])
    path.write_bytes(content)
    with pytest.raises(CaseError, match=rf"a\.tif is damaged: its page {page + 1} is followed by an earlier one"):
        read_case(path)


def test_more_pages_than_a_file_can_hold_are_an_error(tmp_path):
    """Pages of 100 tags each, 1206 bytes, every 8 bytes: the tags of one are the pages after it."""
    path = written(tmp_path / "a.tif", STACK[0])
    content = path.read_bytes()
    (first,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, first)
    start, slots = len(content), 8000
    overlapping = b"".join(struct.pack("<HIxx", 100, start + 8 * (slot - 149)) for slot in range(slots))
    content = bytearray(content + overlapping)
    struct.pack_into("<I", content, first + 2 + 12 * tags, start)
    path.write_bytes(content)
    with pytest.raises(CaseError, match=r"a\.tif is damaged: its first \d+ pages alone would fill more than the file"):
        read_case(path)


def test_a_sidecar_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"spacing": [2.0, 0.5, 0.25]}).encode())
    assert read_case(written(tmp_path / "a.tif", STACK)).spacing_mm == (2.0, 0.5, 0.25)
