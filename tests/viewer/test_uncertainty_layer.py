"""The layer of uncertainty, and the way through its slices."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from random_model import RandomModel

from napari_nnunet_cpu import Case, Settings, load_model, segment, segment_layer
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.predict import Result
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.results.layer_result import LayerLabels
from napari_nnunet_cpu.viewer.results.uncertainty import UncertainSlices, add_uncertainty

SHAPE = (6, 8, 9)


def uncertainty_along(axis: int, scores: list[float], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Slices of the axis of which each has the same uncertainty everywhere."""
    return np.broadcast_to(np.reshape(scores, [-1 if n == axis else 1 for n in range(len(shape))]), shape).astype("f4")


def shown(uncertainty: np.ndarray, **transforms: object) -> tuple[ViewerModel, Image]:
    """A viewer with an image and its uncertainty, at slice 0."""
    viewer = ViewerModel()
    source = viewer.add_image(np.zeros(uncertainty.shape, np.float32), name="knee", **transforms)
    image = image_from_layers([source], axes="T, Z, Y, X" if uncertainty.ndim == 4 else None)
    parts = LayerLabels(image)
    for number in image.times:
        part = uncertainty[number] if uncertainty.ndim == 4 else uncertainty
        case = image.case(time=number)
        parts.add(Result(np.zeros(part.shape, np.uint8), {0: "background"}, ABOUT, case, uncertainty=part))
    layer = add_uncertainty(viewer, parts.result(), image)
    viewer.dims.current_step = (0,) * uncertainty.ndim
    return viewer, layer


ABOUT = {"image": {}, "seconds": {}, "tiles": 1, "tiles_done": 1, "passes": 1, "runs": []}


def test_the_layer_lies_on_the_image() -> None:
    uncertainty = np.random.default_rng(0).random(SHAPE, np.float32)
    viewer, layer = shown(uncertainty, scale=(3, 1, 0.5), translate=(10, 20, 30))
    source = viewer.layers["knee"]
    assert layer.name == "knee uncertainty (uncalibrated)"
    assert np.array_equal(layer.data, uncertainty)
    assert (layer.colormap.name, layer.blending, tuple(layer.contrast_limits)) == ("magma", "additive", (0, 1))
    for voxel in ((0, 0, 0), (5, 7, 8)):
        np.testing.assert_allclose(layer.data_to_world(voxel), source.data_to_world(voxel))
    assert viewer.layers.selection.active is source


def test_without_uncertainty_there_is_no_layer() -> None:
    viewer = ViewerModel()
    image = image_from_layers([viewer.add_image(np.zeros(SHAPE), name="knee")])
    parts = LayerLabels(image)
    parts.add(Result(np.zeros(SHAPE, np.uint8), {0: "background"}, ABOUT, image.case()))
    assert parts.result().uncertainty is None
    with pytest.raises(CaseError, match="knee was segmented without uncertainty; run with Settings"):
        add_uncertainty(viewer, parts.result(), image)


def test_turned_axes_and_a_script(one, channels) -> None:
    """A layer whose axes run otherwise than the file's: uncertainty is where the labels are."""
    viewer = ViewerModel()
    viewer.add_image(channels[0].transpose(2, 1, 0)[:, ::-1], name="turned")
    labels = segment_layer(viewer, "turned", one, Settings.fast(uncertainty="margin"), axes="X, -Y, Z")
    expected = segment(Case(channels[0][None], (1.0, 1.0, 1.0)), load_model(one), Settings.fast(uncertainty="margin"))
    turned = expected.uncertainty.transpose(2, 1, 0)[:, ::-1]
    assert np.array_equal(viewer.layers["turned uncertainty (uncalibrated)"].data, turned)
    assert np.array_equal(labels.data, expected.labels.transpose(2, 1, 0)[:, ::-1])


def test_the_most_uncertain_first_and_none_twice() -> None:
    viewer, layer = shown(uncertainty_along(0, [0.1, 0.5, 0.0, 0.9, 0.5, 0.3]), scale=(2.5, 1, 1), translate=(-7, 0, 0))
    slices = UncertainSlices(viewer, layer)
    assert slices.order == (3, 1, 4, 5, 0)  # 2 is in no uncertainty
    assert slices.left == 4  # the slider stands on 0
    found = []
    while (number := slices.next()) is not None:
        found.append(number)
        assert round(float(layer.world_to_data(viewer.dims.point)[0])) == number
    assert found == [3, 1, 4, 5]
    assert slices.left == 0
    assert round(float(layer.world_to_data(viewer.dims.point)[0])) == 5  # and stays


def test_slices_on_which_the_user_was_are_visited() -> None:
    viewer, layer = shown(uncertainty_along(0, [0.1, 0.5, 0.2, 0.9, 0.4, 0.3]))
    slices = UncertainSlices(viewer, layer)
    viewer.dims.set_current_step(0, 3)
    viewer.dims.set_current_step(0, 4)
    assert slices.left == 3
    assert [slices.next() for _ in range(4)] == [1, 5, 2, None]


def test_every_axis_has_its_own() -> None:
    uncertainty = uncertainty_along(0, [0.1, 0.5, 0.2, 0.1, 0.1, 0.1]) + uncertainty_along(2, [0.1] * 7 + [0.5, 0.3])
    viewer, layer = shown(uncertainty)
    slices = UncertainSlices(viewer, layer)
    assert slices.order[:2] == (1, 2)
    assert slices.next() == 1
    left = slices.left
    viewer.dims.order = (2, 0, 1)
    assert slices.order[:2] == (7, 8)
    assert slices.left == 8  # of 9; the slider stands on one
    assert slices.next() == 7
    assert viewer.dims.current_step[2] == 7
    assert viewer.dims.current_step[0] == 1
    viewer.dims.order = (0, 1, 2)
    assert slices.left == left


def test_every_time_point_has_its_own() -> None:
    uncertainty = np.stack(
        [uncertainty_along(0, [0.1, 0.2, 0.3], (3, 4, 5)), uncertainty_along(0, [0.3, 0.2, 0.1], (3, 4, 5))]
    )
    viewer, layer = shown(uncertainty)
    slices = UncertainSlices(viewer, layer)
    assert slices.order == (2, 1, 0)
    assert [slices.next() for _ in range(3)] == [2, 1, None]
    viewer.dims.set_current_step(0, 1)
    assert slices.order == (0, 1, 2)
    assert [slices.next() for _ in range(3)] == [0, 2, None]  # the slider stood on 1
    assert viewer.dims.current_step[0] == 1


def test_one_voxel_is_less_than_a_hundredth_of_a_slice() -> None:
    uncertainty = np.zeros((3, 20, 20), np.float32)
    uncertainty[0, 3, 3] = 1
    uncertainty[1, :2, :2] = 0.5
    uncertainty[2] = 0.2
    viewer, layer = shown(uncertainty)
    assert UncertainSlices(viewer, layer).order == (1, 0, 2)


@pytest.mark.parametrize("shape", [(8, 9), (1, 8, 9)])
def test_a_plane_has_no_slices(shape: tuple[int, ...]) -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.ones(shape, np.float32), name="plane")
    slices = UncertainSlices(viewer, layer)
    for ask in (slices.next, lambda: slices.left, lambda: slices.order):
        with pytest.raises(CaseError, match="plane is shown whole, not in slices"):
            ask()


def test_in_3d_there_are_none() -> None:
    viewer, layer = shown(uncertainty_along(0, [0.1, 0.5, 0.2, 0.9, 0.4, 0.3]))
    slices = UncertainSlices(viewer, layer)
    viewer.dims.ndisplay = 3
    with pytest.raises(CaseError, match="not in slices"):
        slices.next()
    viewer.dims.ndisplay = 2
    assert slices.next() == 3


def test_closed_it_hears_nothing() -> None:
    viewer, layer = shown(uncertainty_along(0, [0.1, 0.5, 0.2, 0.9, 0.4, 0.3]))
    slices = UncertainSlices(viewer, layer)
    left = slices.left
    slices.close()
    viewer.dims.set_current_step(0, 3)
    assert slices.left == left
    del slices
    gc.collect()
    viewer.dims.set_current_step(0, 4)


def test_a_channel_axis_that_stays(tmp_path) -> None:
    """Uncertainty has one voxel that reaches over all channels, and no slider goes along it."""
    model = RandomModel(patch=(8, 8, 8), channels=("CT", "PET")).write(tmp_path)
    data = np.random.default_rng(1).normal(size=(8, 9, 2, 10)).astype(np.float32)
    viewer = ViewerModel()
    viewer.add_image(data, name="two")
    labels = segment_layer(viewer, "two", model, Settings.fast(uncertainty="entropy"), axes="Z, Y, C, X")
    layer = viewer.layers["two uncertainty (uncalibrated)"]
    assert layer.data.shape == labels.data.shape == (8, 9, 1, 10)
    viewer.dims.order = (0, 2, 1, 3)
    slices = UncertainSlices(viewer, layer)
    assert len(slices.order) == 8
    assert slices.next() == viewer.dims.current_step[0]
