import numpy as np
import pytest

from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.models.plans import Intensities, Normalization
from napari_nnunet_cpu.prepare.normalize import normalize

STATISTICS = Intensities(mean=10, std=4, percentile_00_5=-2, percentile_99_5=30)


def normalized(
    values: list[float], scheme: Normalization, mask: list[bool] | None = None, statistics: Intensities | None = None
) -> list[float]:
    channel = np.array(values, np.float32).reshape(1, 1, -1)
    inside = None if mask is None else np.array(mask).reshape(channel.shape)
    normalize(channel, scheme, inside, statistics)
    assert channel.dtype == np.float32
    return channel.ravel().tolist()


def test_z_score() -> None:
    # mean 5, deviations -3 -1 1 3, variance 20 / 4
    assert normalized([2, 4, 6, 8], "ZScoreNormalization") == pytest.approx([n / 5**0.5 for n in (-3, -1, 1, 3)])


def test_z_score_inside_a_mask_leaves_the_outside() -> None:
    # inside: mean 4, deviations -2 0 2, variance 8 / 3
    found = normalized([0, 2, 4, 6, 7], "ZScoreNormalization", [False, True, True, True, False])
    assert found == pytest.approx([0, -2 / (8 / 3) ** 0.5, 0, 2 / (8 / 3) ** 0.5, 7])


def test_z_score_of_a_constant_image_is_zero() -> None:
    assert normalized([7, 7, 7], "ZScoreNormalization") == [0, 0, 0]
    assert normalized([0, 7, 7], "ZScoreNormalization", [False, True, True]) == [0, 0, 0]


@pytest.mark.parametrize("scheme", ["ZScoreNormalization", "RescaleTo01Normalization", "CTNormalization"])
@pytest.mark.parametrize("mask", [None, [True, False, True, True, True]])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_tiny_or_huge_range_is_normalized_like_any(
    scheme: Normalization, mask: list[bool] | None, scale: float
) -> None:
    values = np.array([-1.5, 7.0, -0.5, 0.25, 1.75])
    statistics = [Intensities(mean=s / 4, std=s, percentile_00_5=-s, percentile_99_5=2 * s) for s in (1.0, scale)]
    expected, found = (
        normalized(list(values * s), scheme, mask, statistics[number]) for number, s in enumerate((1.0, scale))
    )
    inside = np.array(mask or [True] * 5) | (scheme != "ZScoreNormalization")
    np.testing.assert_allclose(np.array(found)[inside], np.array(expected)[inside], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.array(found)[~inside], np.float32(values * scale)[~inside])


def test_z_score_with_an_empty_mask_changes_nothing() -> None:
    assert normalized([1, 2, 3], "ZScoreNormalization", [False] * 3) == [1, 2, 3]


def test_ct_clips_then_standardizes() -> None:
    # clipped to -2 .. 30, minus 10, by 4
    found = normalized([-1000, -2, 10, 12, 30, 3000], "CTNormalization", statistics=STATISTICS)
    assert found == [-3, -3, 0, 0.5, 5, 5]


def test_ct_without_spread_divides_by_a_small_number() -> None:
    flat = Intensities(mean=10, std=0, percentile_00_5=10, percentile_99_5=10)
    assert normalized([5, 10, 20], "CTNormalization", statistics=flat) == [0, 0, 0]


def test_rescale_to_01() -> None:
    assert normalized([-1, 0, 3], "RescaleTo01Normalization") == [0, 0.25, 1]
    assert normalized([6, 6], "RescaleTo01Normalization") == [0, 0]


def test_rgb_to_01() -> None:
    assert normalized([0, 51, 255], "RGBTo01Normalization") == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize("values", [[-1, 10], [10, 256]])
def test_rgb_refuses_what_is_no_colour(values: list[float]) -> None:
    with pytest.raises(CaseError, match=f"found {values[0]} to {values[1]}"):
        normalized(values, "RGBTo01Normalization")


def test_no_normalization() -> None:
    assert normalized([-4, 0, 9], "NoNormalization") == [-4, 0, 9]
