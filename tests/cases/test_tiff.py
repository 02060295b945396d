import json
import struct

import numpy as np
import pytest
import tifffile

from napari_nnunet_cpu import read_case
from napari_nnunet_cpu.cases import Case, write_labels
from napari_nnunet_cpu.cases.case import SpacingSource, planar_spacing
from napari_nnunet_cpu.errors import CaseError

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
    with pytest.raises(CaseError, match=rf"film\.tif is a time series \(axes {axes}.*save one time point"):
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
    with pytest.raises(CaseError, match="has axes QQYX; axes out of C, Z, Y, X are needed, each once"):
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
