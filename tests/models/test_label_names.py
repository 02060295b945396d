import numpy as np
import pytest
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.labels import labels_from_dataset

REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def test_each_label_has_a_head():
    labels = labels_from_dataset({"kidney": 2, "background": 0, "liver": 1}, None, "dataset.json")
    assert (labels.names, labels.heads, labels.region_values) == ({0: "background", 1: "liver", 2: "kidney"}, 3, None)


def test_a_list_of_one_value_is_a_label():
    labels = labels_from_dataset({"background": [0], "liver": [1]} | {"background": 0}, None, "dataset.json")
    assert (labels.names, labels.region_values) == ({0: "background", 1: "liver"}, None)


def test_a_head_is_counted_by_its_rank():
    labels = labels_from_dataset({"background": 0, "a": 5, "b": 9}, None, "dataset.json")
    assert (labels.names, labels.heads) == ({0: "background", 1: "a", 2: "b"}, 3)


def test_each_region_has_a_head_and_paints_its_value():
    labels = labels_from_dataset(REGIONS, [1, 2, 3], "dataset.json")
    assert labels.heads == 3
    assert labels.region_values == (1, 2, 3)
    assert labels.names == {0: "background", 1: "whole", 2: "core", 3: "enhancing"}


def test_regions_may_paint_in_another_order():
    labels = labels_from_dataset(REGIONS, [3, 1, 2], "dataset.json")
    assert labels.region_values == (3, 1, 2)
    assert labels.names == {0: "background", 3: "whole", 1: "core", 2: "enhancing"}


@pytest.mark.parametrize(
    ("labels", "order", "heads"),
    [({"background": 0, "liver": 1, "ignore": 2}, None, 2), (REGIONS | {"ignore": 4}, [1, 2, 3], 3)],
    ids=["labels", "regions"],
)
def test_ignore_has_no_head_and_no_name(labels, order, heads):
    result = labels_from_dataset(labels, order, "dataset.json")
    assert result.heads == heads
    assert "ignore" not in result.names.values()


@pytest.mark.parametrize(
    ("labels", "order", "message"),
    [
        ({"liver": 1}, None, 'labels must name "background" as 0, found nothing'),
        ({"background": 1, "liver": 0}, None, 'labels must name "background" as 0, found 1'),
        ({}, None, 'labels must name "background" as 0, found nothing'),
        ({"background": 0, "liver": -1}, None, "label values must lie between 0 and 65535"),
        ({"background": 0, "liver": 65536}, None, "label values must lie between 0 and 65535"),
        ({"background": 0, "liver": [1, 10**30]}, [1], "label values must lie between 0 and 65535"),
        ({"background": 0, "liver": []}, None, "a label has an empty list of values"),
        (REGIONS, None, "3 regions need a regions_class_order of as many values, found None"),
        (REGIONS, [1, 2], r"3 regions need a regions_class_order of as many values, found \[1, 2\]"),
        (REGIONS, [0, 1, 2], "regions_class_order must hold values between 1 and 65535"),
        (REGIONS, [1, 2, 65536], "regions_class_order must hold values between 1 and 65535"),
        (
            {"background": 0, "liver": 1, "ignore": 3},
            None,
            r'"ignore" must be the highest label plus one \(2\), found 3',
        ),
        (REGIONS | {"ignore": 3}, [1, 2, 3], r'"ignore" must be the highest label plus one \(4\), found 3'),
    ],
    ids=[
        "no-background", "background-not-0", "empty", "negative", "large", "huge", "no-value", "no-order",
        "short-order", "order-0", "order-large", "ignore", "ignore-regions",
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(labels, order, message):
    with pytest.raises(ModelError, match=f"^dataset.json: {message}"):
        labels_from_dataset(labels, order, "dataset.json")


@pytest.mark.parametrize(("count", "dtype"), [(2, np.uint8), (255, np.uint8), (256, np.uint16), (300, np.uint16)])
def test_labels_are_as_wide_as_they_must_be(count, dtype):
    labels = {"background": 0} | {f"structure {i}": i for i in range(1, count)}
    assert labels_from_dataset(labels, None, "dataset.json").dtype == dtype


def test_a_region_of_a_high_value_is_wide():
    labels = labels_from_dataset({"background": 0, "a": [1, 300], "b": 300}, [1, 300], "dataset.json")
    assert labels.dtype == np.uint16


def test_many_labels_take_no_time():
    """They took the square of their number."""
    labels = {"background": 0} | {f"structure {i}": i % 65535 + 1 for i in range(100_000)}
    assert labels_from_dataset(labels, None, "dataset.json").heads == 65536


@pytest.mark.parametrize(
    ("model", "heads"),
    [
        (RandomModel(labels=REGIONS, regions_class_order=[1, 2, 3]), 3),
        (RandomModel(labels={"background": 0, "liver": 1, "ignore": 2}), 2),
        (RandomModel(labels={"background": 0} | {str(i): i for i in range(1, 257)}), 257),
    ],
    ids=["regions", "ignore", "257-labels"],
)
def test_the_network_has_a_head_for_each(tmp_path, model, heads):
    loaded = load_model(model.write(tmp_path))
    assert loaded.labels.heads == heads
    assert loaded.network(0).state_dict()["decoder.seg_layers.1.bias"].shape == (heads,)
    assert loaded.describe()["regions"] == (loaded.labels.region_values is not None)
