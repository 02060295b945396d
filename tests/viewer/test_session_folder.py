"""Corrected labels lie in the folder as they would on the image's own file, however the layer was turned."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Case, Settings, load_model, read_case, save_corrected_layer, segment, segment_layer
from napari_nnunet_cpu.cases import read_labels
from napari_nnunet_cpu.errors import CaseError, OutputError
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.results import corrected_labels
from napari_nnunet_cpu.viewer.results.corrected_labels import label_values, save_corrected

AFFINES = {
    "RAS": np.diag([1, 1.25, 2, 1]),
    "LAI": np.diag([-1, 1.25, -2, 1]),
    "permuted": np.array([[0, 0, -2, 9], [1, 0, 0, -4], [0, -1.25, 0, 3], [0, 0, 0, 1.0]]),
    "oblique": np.array([[-0.96, 0.35, 0, 5], [0.28, 1.2, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1.0]]),
}


def stored(folder: Path, identifier: str, ending: str = ".nii.gz", channels: int = 1) -> tuple[Case, np.ndarray]:
    """An image and its labels as they are in the folder."""
    case = read_case(*(folder / "imagesTr" / f"{identifier}_{number:04}{ending}" for number in range(channels)))
    return case, read_labels(folder / "labelsTr" / f"{identifier}{ending}", case)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_labels_of_a_turned_layer_come_back_in_file_order(tmp_path, npe2pm, one, affine) -> None:
    path = tmp_path / "scan_0000.nii.gz"
    nib.save(nib.Nifti1Image(smooth_image((12, 14, 13), seed=3)[0].transpose(2, 1, 0), affine), path)
    viewer = ViewerModel()
    with npe2pm.tmp_plugin(package="napari-nifti"):
        (layer,) = viewer.open(path, plugin="napari-nifti")
    model = load_model(one)
    labels = segment_layer(viewer, layer, model, Settings.fast())
    in_file = segment(read_case(path), model, Settings.fast()).labels
    assert save_corrected_layer(viewer, labels, layer, model, tmp_path / "session") == ("scan",)
    case, saved = stored(tmp_path / "session", "scan")
    np.testing.assert_array_equal(saved, in_file)
    np.testing.assert_array_equal(case.channels, read_case(path).channels)
    np.testing.assert_allclose(case.affine, affine, atol=1e-5)

    # Painted on the layer, at the voxel that is the brightest there: it is the brightest one in the file, too.
    brightest = np.unravel_index(np.argmax(layer.data), layer.data.shape)
    painted = 1 + labels.data[brightest] % 2
    labels.data[brightest] = painted
    assert save_corrected_layer(viewer, labels, layer, model, tmp_path / "session") == ("scan",)
    in_file[np.unravel_index(np.argmax(case.channels[0]), case.shape)] = painted
    np.testing.assert_array_equal(stored(tmp_path / "session", "scan")[1], in_file)
    assert len(list((tmp_path / "session" / "imagesTr").iterdir())) == 1


def test_axes_that_were_typed_are_undone(tmp_path, one, channels) -> None:
    viewer = ViewerModel()
    viewer.add_image(channels[0].transpose(2, 1, 0)[::-1], name="scan")
    painted = np.random.default_rng(0).integers(0, 3, channels[0].shape)
    viewer.add_labels(painted.transpose(2, 1, 0)[::-1], name="mine")
    options = {"axes": "-X, Y, Z", "spacing_mm": (2, 1.5, 1)}
    (identifier,) = save_corrected_layer(viewer, "mine", "scan", one, tmp_path, **options)
    case, saved = stored(tmp_path, identifier)
    np.testing.assert_array_equal(saved, painted)
    np.testing.assert_array_equal(case.channels[0], channels[0])
    assert case.spacing_mm == (2, 1.5, 1)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3), (1, 2, 3, 0)], ids=["CZYX", "ZCYX", "ZYXC"])
def test_channels_of_one_layer_are_files_of_their_own(tmp_path, three, channels, order) -> None:
    viewer = ViewerModel()
    viewer.add_image(channels.transpose(order), name="scan")
    labels = segment_layer(viewer, "scan", three, Settings.fast())
    (identifier,) = save_corrected_layer(viewer, labels, "scan", three, tmp_path)
    case, saved = stored(tmp_path, identifier, channels=3)
    np.testing.assert_array_equal(case.channels, channels)
    np.testing.assert_array_equal(saved, labels.data.reshape(saved.shape))
    assert json.loads((tmp_path / "dataset.json").read_text())["channel_names"] == {"0": "CT", "1": "PET", "2": "MR"}


def test_every_time_point_is_a_case(tmp_path, one, channels) -> None:
    viewer = ViewerModel()
    viewer.add_image(channels, name="film", axis_labels=("time", "z", "y", "x"))
    every = segment_layer(viewer, "film", one, Settings.fast(), time="all")
    assert save_corrected_layer(viewer, every, "film", one, tmp_path) == ("film_t0", "film_t1", "film_t2")
    for time in range(3):
        case, saved = stored(tmp_path, f"film_t{time}")
        np.testing.assert_array_equal(case.channels[0], channels[time])
        np.testing.assert_array_equal(saved, every.data[time])
    second = segment_layer(viewer, "film", one, Settings.fast(), time=1)
    second.data[0] = 2
    assert save_corrected_layer(viewer, second, "film", one, tmp_path) == ("film_t1",)
    assert (stored(tmp_path, "film_t1")[1] == 2).all()
    np.testing.assert_array_equal(stored(tmp_path, "film_t2")[1], every.data[2])
    assert json.loads((tmp_path / "dataset.json").read_text())["numTraining"] == 3


def test_labels_of_a_time_point_that_is_not_there(tmp_path, one, channels) -> None:
    viewer = ViewerModel()
    film = viewer.add_image(channels, name="film", axis_labels=("time", "z", "y", "x"))
    labels = segment_layer(viewer, "film", one, Settings.fast(), time=2)
    film.data = channels[:2]
    with pytest.raises(
        CaseError, match="film labels was made from the data that film held before, not from film; save"
    ):
        save_corrected_layer(viewer, labels, "film", one, tmp_path)
    labels = viewer.add_labels(labels.data, name="mine", metadata={"nnunet": {"image": {"time_points": [2]}}})
    with pytest.raises(CaseError, match=r"has labels of time points \[2\], which film does not have"):
        save_corrected_layer(viewer, labels, "film", one, tmp_path)


def test_planes(tmp_path) -> None:
    model = load_model(RandomModel(patch=(8, 8), spacing=(1, 1), reader="NaturalImage2DIO").write(tmp_path / "model"))
    viewer = ViewerModel()
    viewer.add_image(smooth_image((1, 15, 17), seed=2)[0, 0], name="slide", scale=(0.5, 0.5))
    painted = viewer.add_labels(np.random.default_rng(0).integers(0, 3, (15, 17)))
    assert save_corrected_layer(viewer, painted, "slide", model, tmp_path / "session") == ("slide",)
    case, saved = stored(tmp_path / "session", "slide", ".tif")
    np.testing.assert_array_equal(saved[0], painted.data)
    np.testing.assert_array_equal(case.channels[0, 0], viewer.layers["slide"].data)


@pytest.mark.parametrize(
    ("reader", "spacing"), [("SimpleITKIO", (3, 2, 1)), ("NibabelIO", (3, 2, 1)), ("Tiff3DIO", (1, 1, 1))]
)
def test_the_spacing_is_the_one_that_the_model_takes(tmp_path, channels, reader, spacing) -> None:
    model = load_model(RandomModel(patch=(8, 8, 8), reader=reader).write(tmp_path / "model"))
    viewer = ViewerModel()
    viewer.add_image(channels[0], name="scan", scale=(3, 2, 1))
    painted = viewer.add_labels(np.ones(channels[0].shape, int))
    save_corrected_layer(viewer, painted, "scan", model, tmp_path / "session")
    assert stored(tmp_path / "session", "scan")[0].spacing_mm == spacing
    named = json.loads((tmp_path / "session" / "dataset.json").read_text()).get("overwrite_image_reader_writer")
    assert named == ("NibabelIO" if reader == "NibabelIO" else None)


def test_a_model_that_turns_images_needs_directions(tmp_path, channels) -> None:
    model = load_model(RandomModel(patch=(8, 8, 8), reader="NibabelIOWithReorient").write(tmp_path / "model"))
    viewer = ViewerModel()
    viewer.add_image(channels[0], name="scan")
    viewer.add_labels(np.ones(channels[0].shape, int), name="mine")
    with pytest.raises(CaseError, match="does not say how it lies in space"):
        save_corrected_layer(viewer, "mine", "scan", model, tmp_path / "session")
    save_corrected_layer(viewer, "mine", "scan", model, tmp_path / "session", axes="I, P, L")
    np.testing.assert_allclose(stored(tmp_path / "session", "scan")[0].affine[:3, :3], np.diag([-1, -1, -1]))


@pytest.mark.parametrize(
    ("labels", "order", "values"),
    [
        ({"background": 0, "liver": 1}, None, {"background": 0, "liver": 1}),
        ({"background": 0, "a": 2, "b": 5, "ignore": 6}, None, {"background": 0, "a": 1, "b": 2, "ignore": 3}),
        (
            {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3, "ignore": 4},
            [1, 2, 3],
            {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3, "ignore": 4},
        ),
    ],
    ids=["ordinary", "gaps-and-ignore", "regions"],
)
def test_label_values_are_those_that_the_model_paints(tmp_path, channels, labels, order, values) -> None:
    folder = RandomModel(patch=(8, 8, 8), labels=labels, regions_class_order=order).write(tmp_path / "model")
    model = load_model(folder)
    assert label_values(model) == (values, None if order is None else tuple(order))
    viewer = ViewerModel()
    viewer.add_image(channels[0], name="scan")
    result = segment_layer(viewer, "scan", model, Settings.fast())
    highest = model.labels.heads if order is None else 4
    result.data[0] = highest if "ignore" in labels else 0
    (identifier,) = save_corrected_layer(viewer, result, "scan", model, tmp_path / "session")
    np.testing.assert_array_equal(stored(tmp_path / "session", identifier)[1], result.data)
    assert json.loads((tmp_path / "session" / "dataset.json").read_text())["labels"] == values


def test_what_does_not_fit_is_told(tmp_path, one, three, channels) -> None:
    viewer = ViewerModel()
    viewer.add_image(channels[0], name="scan")
    viewer.add_labels(np.full(channels[0].shape, 9), name="mine")
    viewer.add_labels(np.ones((3, 4, 5), int), name="small")
    with pytest.raises(CaseError, match="scan: 2184 voxels have label 9, which has no name"):
        save_corrected_layer(viewer, "mine", "scan", one, tmp_path)
    with pytest.raises(CaseError, match=r"labels of shape \(3, 4, 5\) do not lie on scan"):
        save_corrected_layer(viewer, "small", "scan", one, tmp_path)
    with pytest.raises(CaseError, match="there is no layer 'other'"):
        save_corrected_layer(viewer, "other", "scan", one, tmp_path)
    assert not list(tmp_path.iterdir())
    viewer.layers["mine"].data = np.ones(channels[0].shape, int)
    save_corrected_layer(viewer, "mine", "scan", one, tmp_path)
    with pytest.raises(OutputError, match="has another channel_names"):
        save_corrected_layer(viewer, "mine", ["scan"] * 3, three, tmp_path)


def test_a_snapshot_of_one_time_point(tmp_path, one, channels) -> None:
    film = ViewerModel().add_image(channels, name="film", axis_labels=("time", "z", "y", "x"))
    painted = ViewerModel().add_labels(np.ones((1, *channels.shape[1:]), int))
    image = image_from_layers([film]).at(2)
    assert save_corrected(str(tmp_path), painted, image, load_model(one)) == ("film_t2",)
    np.testing.assert_array_equal(stored(tmp_path, "film_t2")[0].channels[0], channels[2])


def test_names_of_time_points_sort_as_the_series(one) -> None:
    viewer = ViewerModel()
    film = viewer.add_image(np.zeros((12, 2, 3, 4)), name="film", axis_labels=("time", "z", "y", "x"))
    names = [corrected_labels._name(image_from_layers([film]), time) for time in range(12)]
    assert names == sorted(names)
    assert (names[2], names[10]) == ("film_t02", "film_t10")
    still = viewer.add_image(np.zeros((2, 3, 4)), name="still")
    assert corrected_labels._name(image_from_layers([still]), 0) == "still"
