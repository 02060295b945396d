import dataclasses

import numpy as np
import pytest
from PIL import Image
from random_model import smooth_image

from napari_nnunet_cpu import Case, Result
from napari_nnunet_cpu.cli.picture import draw_picture, write_picture
from napari_nnunet_cpu.errors import OutputError

ORANGE, BLUE = (230, 159, 0), (86, 180, 233)
NAMES = {0: "background", 1: "cap", 2: "base"}


@pytest.fixture
def result():
    """A volume (Z, Y, X) with a label at the top and front left, another at the bottom."""
    labels = np.zeros((20, 30, 40), np.uint8)
    labels[14:18, 18:28, 4:16] = 1
    labels[2:6, 8:22, 10:30] = 2
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    return Result(labels, NAMES, {}, Case(smooth_image(labels.shape), (3.0, 2.0, 1.0), affine))


def centre(picture, colour, columns):
    """Mean (row, column) of the pixels of a label's outline in part of the picture."""
    pixels = np.asarray(picture)[:460, columns]
    rows, places = np.nonzero((pixels == colour).all(axis=-1))
    return rows.mean(), places.mean()


def test_panels_have_the_volume_s_proportions(result):
    picture = draw_picture(result, "note")
    grey = np.asarray(picture.convert("L"))[42:462]
    # 60 mm across Y and Z, 40 mm across X: 420, 280 and 280 pixels wide, 16 between them.
    assert picture.width == 420 + 280 + 280 + 4 * 16
    for gap in (slice(0, 16), slice(436, 452), slice(732, 748), slice(1028, 1044)):
        assert not grey[:, gap].any()


def test_the_patient_is_upright(result):
    picture = draw_picture(result, "note")
    sagittal, coronal, axial = slice(16, 436), slice(452, 732), slice(748, 1028)
    for columns in (sagittal, coronal):
        assert centre(picture, ORANGE, columns)[0] < centre(picture, BLUE, columns)[0] - 100
    assert centre(picture, BLUE, coronal)[1] == pytest.approx(140, abs=4)
    assert centre(picture, ORANGE, coronal)[1] < 100
    # Only the slice with the most labelled voxels is shown, and that is the base's.
    assert not (np.asarray(picture)[:460, axial] == ORANGE).all(axis=-1).any()
    assert centre(picture, BLUE, axial) == pytest.approx((42 + 210, 140), abs=4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_how_the_file_stores_the_volume_does_not_matter(result, axis):
    case = result.case
    affine = case.affine.copy()
    column = 2 - axis
    affine[:3, 3] += affine[:3, column] * (case.shape[axis] - 1)
    affine[:3, column] *= -1
    flipped = dataclasses.replace(case, channels=np.flip(case.channels, axis + 1), affine=affine)
    turned = dataclasses.replace(result, labels=np.flip(result.labels, axis), case=flipped)
    np.testing.assert_array_equal(draw_picture(turned, "note"), draw_picture(result, "note"))


def test_axes_in_another_order(result):
    case = result.case
    swapped = Case(case.channels.swapaxes(1, 3), case.spacing_mm[::-1], case.affine[:, [2, 1, 0, 3]])
    turned = Result(result.labels.swapaxes(0, 2), NAMES, {}, swapped)
    np.testing.assert_array_equal(draw_picture(turned, "note"), draw_picture(result, "note"))


def test_nothing_found(result):
    empty = dataclasses.replace(result, labels=np.zeros_like(result.labels))
    pixels = np.asarray(draw_picture(empty, "note"))[:460]
    assert (pixels == pixels[..., :1]).all()


def test_no_affine_and_more_labels_than_colours(result):
    case = dataclasses.replace(result.case, affine=None)
    many = dataclasses.replace(result, labels=np.where(result.labels > 0, 255, 0).astype(np.uint8), case=case)
    assert (
        (np.asarray(draw_picture(many, "note"))[:460] == (0, 158, 115)).all(axis=-1).any()
    )  # the third: 255 = 36 * 7 + 3


def test_written_whole_or_not_at_all(result, tmp_path):
    path = write_picture(tmp_path / "picture.png", result, "note")
    with Image.open(path) as picture:
        np.testing.assert_array_equal(picture, draw_picture(result, "note"))
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError):
        write_picture(path / "picture.png", result, "note")
    assert list(tmp_path.iterdir()) == [path]
