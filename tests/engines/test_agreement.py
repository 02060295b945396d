import numpy as np
import pytest

from napari_nnunet_cpu.engines.agreement import Agreement, foreground_classes, measure_agreement, winners
from napari_nnunet_cpu.models.labels import Labels

ORGANS = Labels({0: "background", 1: "liver", 2: "spleen"}, heads=3, foreground=(1, 2))
REGIONS = Labels({0: "background", 5: "whole", 7: "core"}, 2, (5, 7), (1, 2), ((1, 2), (2,)))


def line(**voxels: int) -> np.ndarray:
    """Labels along a line: so many voxels of background, liver, spleen, liver again."""
    values = {"background": 0, "liver": 1, "spleen": 2, "liver_again": 1}
    return np.concatenate([np.full(count, values[name], np.uint16) for name, count in voxels.items()])


def heads(*rows: tuple[int, int]) -> np.ndarray:
    """One row per region: it is there in so many voxels of 100, from the one given on."""
    found = np.zeros((len(rows), 100), bool)
    for row, (start, count) in zip(found, rows, strict=True):
        row[start : start + count] = True
    return found


def test_the_head_that_wins_decides() -> None:
    logits = np.array([[[0, 3]], [[1, -1]], [[0.5, 2]]], np.float32)
    np.testing.assert_array_equal(winners(logits, ORGANS), [[1, 0]])


def test_regions_decide_one_by_one() -> None:
    logits = np.array([[0.1, -0.1, 0], [2, -3, 4]], np.float32)
    np.testing.assert_array_equal(winners(logits, REGIONS), [[True, False, False], [True, False, True]])


def test_classes_are_counted() -> None:
    assert foreground_classes(line(background=5)) == 0
    assert foreground_classes(line(background=5, spleen=1)) == 1
    assert foreground_classes(line(liver=5, spleen=1)) == 2
    assert foreground_classes(heads((0, 0), (3, 1))) == 1
    assert foreground_classes(heads((0, 0), (0, 0))) == 0


def test_the_worst_class_counts() -> None:
    reference = line(background=400, liver=200, spleen=100)
    found = line(background=400, liver=220, spleen=80)
    # liver 2 * 200 / (200 + 220), spleen 2 * 80 / (100 + 80)
    assert measure_agreement([(reference, found)], ORGANS) == Agreement("spleen", 160 / 180, 680 / 700)


def test_all_pairs_count_together() -> None:
    pairs = [
        (line(liver=100), line(liver=100)),
        (line(background=50, liver=50), line(background=60, liver=40)),
    ]
    agreement = measure_agreement(pairs, ORGANS)
    assert agreement == Agreement("background", 100 / 110, 190 / 200)


def test_a_class_of_a_few_voxels_does_not_count() -> None:
    pairs = [(line(background=900, spleen=49), line(background=949))]
    assert measure_agreement(pairs, ORGANS).worst == "background"
    pairs = [(line(background=900, spleen=50), line(background=950))]
    assert measure_agreement(pairs, ORGANS) == Agreement("spleen", 0.0, 900 / 950)


def test_a_class_that_is_only_found_counts() -> None:
    pairs = [(line(background=1000), line(background=900, spleen=100))]
    assert measure_agreement(pairs, ORGANS) == Agreement("spleen", 0.0, 0.9)


def test_background_alone() -> None:
    pairs = [(line(background=1000), line(background=1000))]
    assert measure_agreement(pairs, ORGANS) == Agreement("background", 1.0, 1.0)


def test_regions_are_compared_one_by_one() -> None:
    reference, found = heads((0, 80), (0, 60)), heads((0, 80), (10, 60))
    # core: 50 voxels in both; whole is the same
    assert measure_agreement([(reference, found)], REGIONS) == Agreement("core", 100 / 120, 0.8)


def test_no_region_anywhere() -> None:
    reference, found = heads((0, 0), (0, 0)), heads((0, 1), (1, 2))
    assert measure_agreement([(reference, found)], REGIONS) == Agreement("background", 0.97, 0.97)


def test_more_than_one_axis() -> None:
    reference = line(background=400, liver=200, spleen=200).reshape(8, 10, 10)
    found = line(background=400, liver=240, spleen=160).reshape(8, 10, 10)
    assert measure_agreement([(reference, found)], ORGANS) == Agreement("spleen", 320 / 360, 0.95)


@pytest.mark.parametrize(
    ("agreement", "said"),
    [
        (Agreement("spleen", 0.9699, 0.99999), "Dice 0.969 for spleen, the worst class, and 99.9 % of voxels the same"),
        (Agreement("liver", 1.0, 1.0), "Dice 1 for liver, the worst class, and 100 % of voxels the same"),
    ],
)
def test_what_people_read_promises_nothing_more(agreement: Agreement, said: str) -> None:
    assert str(agreement) == said
