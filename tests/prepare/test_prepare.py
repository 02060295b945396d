import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Case, TrainedModel, load_model
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.prepare import crop, plan_geometry, prepare
from napari_nnunet_cpu.prepare.geometry import AxisOrder


def opened(folder: Path, **options: object) -> TrainedModel:
    return load_model(RandomModel(**options).write(folder))


def marked_case(dtype: type = np.float32) -> Case:
    """Zero but for a box whose voxels all differ."""
    channels = np.zeros((1, 9, 10, 11), dtype)
    channels[0, 2:5, 3:7, 4:9] = np.arange(1, 61).reshape(3, 4, 5)
    return Case(channels, (1.0, 1.0, 1.0))


def test_crop_and_transpose(tmp_path: Path) -> None:
    model = opened(tmp_path, normalization="NoNormalization", transpose=(2, 0, 1))
    prepared = prepare(marked_case(), model)
    geometry = prepared.geometry
    assert geometry.order == AxisOrder((2, 0, 1))
    assert geometry.full_shape == (11, 9, 10)
    assert geometry.box == ((4, 9), (2, 5), (3, 7))
    assert prepared.image.dtype == np.float32
    assert np.array_equal(prepared.image[0], np.arange(1, 61).reshape(3, 4, 5).transpose(2, 0, 1))


@pytest.mark.parametrize("normalization", ["ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization"])
@pytest.mark.parametrize("value", [-3.4028235e38, 1e30, 9.96921e36, 1e20, -1e16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_voxels_without_data_are_named(tmp_path: Path, normalization: str, value: float, dtype: type) -> None:
    """nnU-Net's result has no contrast left, or numbers that are not finite."""
    case = marked_case(dtype)
    case.channels[0, 2, 3, 4:6] = value
    worst = re.escape(f"{dtype(value):.3g}")
    message = (
        rf"image: channel 0 has 2 voxels that are as large as {worst}, which "
        r'means "no data"; the first is \(Z, Y, X\) \(2, 3, 4\), all lie in the box 2:3,3:4,4:6; set them'
    )
    with pytest.raises(CaseError, match=message):
        prepare(case, opened(tmp_path, normalization=normalization, transpose=(2, 0, 1)))


def test_voxels_without_data_are_clipped_as_nnunet_does(tmp_path: Path) -> None:
    model = opened(tmp_path, normalization="CTNormalization")
    images = []
    for value in (-3.4028235e38, -1e4):
        case = marked_case()
        case.channels[0, 2, 3, 4:6] = value
        images.append(prepare(case, model).image)
    np.testing.assert_array_equal(*images)
    assert np.isfinite(images[0]).all()


def test_large_intensities_are_intensities(tmp_path: Path) -> None:
    large = replace(marked_case(), channels=marked_case().channels * np.float32(1e13))
    prepared = prepare(large, opened(tmp_path))
    np.testing.assert_allclose(prepared.image, prepare(marked_case(), opened(tmp_path / "b")).image, rtol=1e-4)


def test_spacing_follows_the_transposition(tmp_path: Path) -> None:
    model = opened(tmp_path, transpose=(2, 0, 1), spacing=(4.0, 1.0, 2.0))
    case = Case(np.ones((1, 9, 10, 11)), (1.0, 1.0, 2.0))
    geometry = prepare(case, model).geometry
    assert geometry.spacing_mm == (2.0, 1.0, 1.0)
    assert geometry.target_spacing_mm == (4.0, 1.0, 2.0)
    assert geometry.shape == (6, 9, 5)  # 5.5 to the even 6


def test_reorienting_reader_turns_the_image(tmp_path: Path) -> None:
    model = opened(tmp_path, normalization="NoNormalization", reader="NibabelIOWithReorient")
    flipped = replace(marked_case(), affine=np.diag([-1.0, 1.0, -1.0, 1.0]))
    image = prepare(flipped, model).image[0]
    assert np.array_equal(image, np.arange(1, 61).reshape(3, 4, 5)[::-1, :, ::-1])


def test_flat_model_keeps_the_distance_of_slices(tmp_path: Path) -> None:
    model = opened(tmp_path, patch=(16, 16), spacing=(0.5, 1.0))
    geometry = prepare(Case(np.ones((1, 3, 10, 11)), (7.0, 1.0, 1.0)), model).geometry
    assert geometry.target_spacing_mm == (7.0, 0.5, 1.0)
    assert geometry.shape == (3, 20, 11)


def test_normalization_sees_the_cropped_image_before_resampling(tmp_path: Path) -> None:
    model = opened(tmp_path, spacing=(0.5, 0.5, 0.5))
    image = prepare(marked_case(), model).image[0]
    inside = np.arange(1, 61, dtype=np.float32)
    low, high = (inside.min() - inside.mean()) / inside.std(), (inside.max() - inside.mean()) / inside.std()
    assert image.shape == (6, 8, 10)
    assert image.min() == pytest.approx(low, rel=1e-5)  # splines do not leave the range
    assert image.max() == pytest.approx(high, rel=1e-5)


def test_every_channel_has_its_own_scheme(tmp_path: Path) -> None:
    schemes = ("RescaleTo01Normalization", "NoNormalization", "CTNormalization")
    model = opened(tmp_path, channels=("a", "b", "c"), normalization=schemes)
    image = prepare(Case(np.repeat(marked_case().channels, 3, axis=0), (1.0, 1.0, 1.0)), model).image
    assert (image[0].min(), image[0].max()) == (0, 1)
    assert (image[1].min(), image[1].max()) == (1, 60)
    assert image[2, 0, 0, 0] == pytest.approx((1 - 40) / 90)  # the statistics in RandomModel's plans


def test_mask_for_normalization_is_the_nonzero_part_of_the_box(tmp_path: Path) -> None:
    channels = np.zeros((2, 9, 9, 9), np.float32)
    channels[:, 2, 2, 2], channels[:, 5, 6, 7] = 1, 5  # opposite corners: the box between them is mostly zero
    case = Case(channels, (1.0, 1.0, 1.0))
    image = prepare(case, opened(tmp_path, channels=("T1", "T2"), use_mask=(True, False))).image
    assert image.shape == (2, 4, 5, 6)
    masked, whole = image
    assert (masked[0, 0, 0], masked[-1, -1, -1]) == (-1, 1)  # mean 3, standard deviation 2
    assert np.count_nonzero(masked) == 2
    mean = 6 / 120
    assert np.median(whole) == pytest.approx(-mean / ((1 + 25) / 120 - mean**2) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64, np.float32])
def test_the_case_is_left_alone(tmp_path: Path, dtype: type) -> None:
    case = marked_case(dtype)
    case.channels.flags.writeable = False
    before = case.channels.copy()
    prepare(case, opened(tmp_path, use_mask=True))
    assert np.array_equal(case.channels, before)


def test_an_image_of_zeros_is_kept_whole(tmp_path: Path) -> None:
    prepared = prepare(Case(np.zeros((1, 4, 5, 6)), (1.0, 1.0, 1.0)), opened(tmp_path, use_mask=True))
    assert prepared.image.shape == (1, 4, 5, 6)
    assert not prepared.image.any()


def test_planned_geometry_is_the_prepared_one_where_nothing_is_cropped(tmp_path: Path) -> None:
    model = opened(tmp_path, transpose=(1, 2, 0), spacing=(0.7, 1.3, 2.0))
    case = Case(smooth_image((9, 8, 7)) + 5000, (1.1, 0.9, 1.0))
    assert plan_geometry(case, model) == prepare(case, model).geometry


def test_wrong_number_of_channels(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"has 1 channel\(s\), the model needs 2: T1, T2"):
        prepare(marked_case(), opened(tmp_path, channels=("T1", "T2")))


def test_planar_image_needs_a_flat_model(tmp_path: Path) -> None:
    case = Case(np.ones((1, 1, 20, 20)), (999.0, 1.0, 1.0), planar=True)
    with pytest.raises(CaseError, match="2D image, but 3d_fullres needs a volume"):
        prepare(case, opened(tmp_path))


@pytest.mark.parametrize("spacing", [(1000.0, 1000.0, 1000.0), (0.01, 1.0, 1.0)])
def test_absurd_spacing_is_refused_before_memory_is_taken(tmp_path: Path, spacing: tuple[float, ...]) -> None:
    case = Case(np.ones((1, 20, 20, 20)), spacing)
    with pytest.raises(CaseError, match="state it in millimetres"):
        prepare(case, opened(tmp_path))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.2, 0.9, 1.0)])
def test_channels_are_prepared_one_after_the_other(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    model = opened(tmp_path, channels=("a", "b", "c", "d", "e", "f", "g", "h"), use_mask=True)
    case = Case(np.random.default_rng(0).integers(1, 500, (8, 40, 50, 60)).astype(np.int16), spacing)
    prepare(case, model)  # so that what is only made once is there
    tracemalloc.start()
    try:
        image = prepare(case, model).image
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    channel = max(4 * 40 * 50 * 60, image[0].nbytes)
    assert peak < image.nbytes + 4 * channel


def test_the_geometry_is_known_before_the_image_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(tmp_path)
    monkeypatch.setattr(np, "empty", lambda *_, **__: pytest.fail("memory was taken"))
    cropped = crop(marked_case(), model)
    monkeypatch.undo()
    prepared = prepare(marked_case(), model, cropped=cropped)
    assert prepared.geometry == cropped.geometry == prepare(marked_case(), model).geometry
    np.testing.assert_array_equal(prepared.image, prepare(marked_case(), model).image)
