"""Time series: the time point shown or all of them, one after the other."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
from conftest import PATIENCE_MS, expected_labels, label_shown, messages
from napari.components import ViewerModel
from napari.layers import Image
from random_model import RandomModel

from napari_nnunet_cpu import Case, Run, Settings, load_model, segment, segment_layer
from napari_nnunet_cpu.errors import CaseError, SettingsError
from napari_nnunet_cpu.predict import run_to_end
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.run.layer_segmentation import LayerSegmentation


@pytest.fixture
def series(channels) -> np.ndarray:
    """Two time points (T, Z, Y, X)."""
    return channels[:2]


def test_time_series_of_channel_layers(three, channels) -> None:
    viewer = ViewerModel()
    later = channels[:, ::-1]
    for channel, name in enumerate(("CT", "PET", "MR")):
        viewer.add_image(np.stack([channels[channel], later[channel]]), name=name)
    labels = segment_layer(viewer, ["CT", "PET", "MR"], three, Settings.fast(), time="all")
    np.testing.assert_array_equal(labels.data[0], expected_labels(three, channels))
    np.testing.assert_array_equal(labels.data[1], expected_labels(three, later))


def test_all_time_points(viewer, widget, cost, choose, finish, one, series) -> None:
    source = viewer.add_image(series, name="series", scale=(5, 2, 1, 1), translate=(100, 0, 0, 0))
    choose(one)
    assert widget.channels.axes.value == "T, Z, Y, X"
    assert "up to" in cost()
    assert "time points" not in cost()
    widget.channels.time.value = "all"
    assert "for each of 2 time points" in cost()
    told: list[str] = []
    shown = widget._on_event

    def record(event) -> None:  # in place before the run: a signal connected later may miss the first event
        told.append(event.text)
        shown(event)

    widget._on_event = record
    assert widget.run() is not None, messages()
    finish()
    labels = viewer.layers[-1]
    for time in (0, 1):
        case = Case(series[time : time + 1], (2, 1, 1))
        expected = segment(case, load_model(one), Settings.fast()).labels
        np.testing.assert_array_equal(labels.data[time], expected)
        assert label_shown(viewer, labels, source, (time, 4, 5, 6)) == expected[4, 5, 6]
    assert not np.array_equal(labels.data[0], labels.data[1])
    np.testing.assert_allclose(labels.scale, source.scale)
    np.testing.assert_allclose(labels.translate, source.translate)
    assert told[0] == "time point 1 of 2: preparing the image"
    assert told[-1] == "time point 2 of 2: making the labels"
    history = labels.metadata["nnunet"]
    assert history["image"]["time_points"] == [0, 1]
    assert history["image"]["axes"] == "T, Z, Y, X"
    assert history["tiles"] == history["tiles_done"] == sum("tiles" in text for text in told)
    assert len(history["runs"]) == 2


def test_the_time_point_shown(viewer, widget, choose, finish, one, series) -> None:
    source = viewer.add_image(series, scale=(5, 1, 1, 1), translate=(100, 0, 0, 0), units=("s", "mm", "mm", "mm"))
    choose(one)
    viewer.dims.point = (105, 6, 0, 0)
    assert widget.run() is not None, messages()
    viewer.dims.point = (100, 6, 0, 0)
    finish()
    labels, expected = viewer.layers[-1], expected_labels(one, series[1:])
    np.testing.assert_array_equal(labels.data, expected[None])
    assert labels.metadata["nnunet"]["image"]["time_points"] == [1]
    liver = tuple(np.argwhere(expected == 1)[0])
    assert label_shown(viewer, labels, source, (1, *liver)) == 1
    assert not label_shown(viewer, labels, source, (0, *liver))
    np.testing.assert_allclose(labels.data_to_world((0, 0, 0, 0)), source.data_to_world((1, 0, 0, 0)))


def test_the_slider_may_count_in_another_unit(one, series) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((9, 2, 2, 2)), units=("ms", "mm", "mm", "mm"), scale=(1000, 1, 1, 1))
    viewer.add_image(series, units=("s", "mm", "mm", "mm"), name="series")
    viewer.dims.point = (1000, 0, 0, 0)
    labels = segment_layer(viewer, "series", one, Settings.fast())
    np.testing.assert_array_equal(labels.data[0], expected_labels(one, series[1:]))


def test_a_slider_beyond_the_series(viewer, widget, cost, choose, one, series) -> None:
    viewer.add_image(np.zeros((9, 12, 14, 13)), name="longer")
    viewer.add_image(series, name="series")
    choose(one)
    widget.channels.boxes[0].value = viewer.layers["series"]
    viewer.dims.point = (7, 0, 0, 0)
    assert "fast: 8 tiles" in cost()
    assert widget.run() is None
    assert "the viewer stands at time point 7, but series has 2, from 0" in messages()[-1]


def test_a_single_time_point_is_meant_wherever_the_slider_is(one, series) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((9, 12, 14, 13)), name="longer")
    viewer.add_image(series[:1], name="single")
    viewer.dims.point = (7, 0, 0, 0)
    labels = segment_layer(viewer, "single", one, Settings.fast())
    np.testing.assert_array_equal(labels.data[0], expected_labels(one, series[:1]))


def test_time_points_by_number(one, series) -> None:
    viewer = ViewerModel()
    viewer.add_image(series, name="series")
    labels = segment_layer(viewer, "series", one, Settings.fast(), time=1)
    np.testing.assert_array_equal(labels.data[0], expected_labels(one, series[1:]))
    np.testing.assert_allclose(labels.translate, (1, 0, 0, 0))
    for wrong, words in ((2, "there is no time point 2"), (-1, "there is no time point -1")):
        with pytest.raises(CaseError, match=words):
            segment_layer(viewer, "series", one, time=wrong)
    for wrong in ("first", None, True, 1.0):
        with pytest.raises(SettingsError, match="give the number of a time point"):
            segment_layer(viewer, "series", one, time=wrong)
    assert len(viewer.layers) == 2


def test_time_may_be_the_last_axis(one, series) -> None:
    viewer = ViewerModel()
    source = viewer.add_image(np.moveaxis(series, 0, -1)[::-1])
    labels = segment_layer(viewer, source, one, Settings.fast(), axes="-Z, Y, X, T", time="all")
    for time in (0, 1):
        expected = expected_labels(one, series[time : time + 1])
        np.testing.assert_array_equal(labels.data[..., time], expected[::-1])
    shown = segment_layer(viewer, source, one, Settings.fast(), axes="-Z, Y, X, T", time=1)
    np.testing.assert_array_equal(shown.data, labels.data[..., 1:])
    np.testing.assert_allclose(shown.translate, (0, 0, 0, 1))


def test_a_series_of_planes(planes, channels) -> None:
    viewer = ViewerModel()
    series = viewer.add_image(channels[:, :4].transpose(1, 0, 2, 3))
    labels = segment_layer(viewer, series, planes, Settings.fast(), axes="T, C, Y, X", time="all")
    assert labels.data.shape == (4, 1, 14, 13)
    for time in range(4):
        np.testing.assert_array_equal(labels.data[time], expected_labels(planes, channels[:, time, None], planar=True))


def test_a_series_of_colours(tmp_path, series) -> None:
    model = RandomModel(patch=(8, 8), spacing=(1, 1), channels=("R", "G", "B")).write(tmp_path)
    photos = np.random.default_rng(0).integers(0, 255, (2, 14, 13, 4), dtype=np.uint8)
    viewer = ViewerModel()
    source = viewer.add_image(photos, rgb=True)
    labels = segment_layer(viewer, source, model, Settings.fast(), axes="T, Y, X", time="all")
    for time in (0, 1):
        expected = expected_labels(model, photos[time, ..., :3].transpose(2, 0, 1)[:, None], planar=True)
        np.testing.assert_array_equal(labels.data[time], expected[0])


def test_another_time_point_is_another_run(viewer, widget, choose, finish, gated, one, series) -> None:
    source = viewer.add_image(series)
    choose(one)
    viewer.dims.set_current_step(0, 0)
    first = widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000), messages()
    gated.let(1)
    widget.cancel()
    gated.gate.set()
    finish()
    assert widget.run_button.text == "Continue"
    viewer.dims.set_current_step(0, 1)
    second = widget.run()
    assert second is not first
    finish()
    assert viewer.layers[-1].metadata["nnunet"]["image"]["time_points"] == [1]
    assert label_shown(viewer, viewer.layers[-1], source, (1, 4, 5, 6)) == 2


def test_cancel_in_the_second_time_point(viewer, widget, choose, finish, gated, one, series, qtbot) -> None:
    tiles = len(Run(Case(series[:1], (1.0, 1.0, 1.0)), load_model(one), Settings.fast()).tiles)
    through = gated.forward

    def forward(patch: np.ndarray, fold: int) -> np.ndarray:
        if gated.passes == tiles:
            gated.gate.clear()
        return through(patch, fold)

    gated.forward = forward
    gated.gate.set()
    viewer.add_image(series)
    choose(one)
    widget.channels.time.value = "all"
    widget.run()
    qtbot.waitUntil(lambda: gated.passes == tiles + 1, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: "time point 2 of 2" in widget.status.value, timeout=PATIENCE_MS)
    widget.cancel()
    gated.gate.set()
    finish()
    assert gated.passes == tiles + 1
    assert [layer.name for layer in viewer.layers] == ["series", "series (preview)"]
    assert (viewer.layers[1].data[0] == 2).any()
    first, second = ((part == 2).sum() for part in viewer.layers[1].data)
    assert second < first  # no more than of the one tile that was under way
    assert "cancelled" in widget.status.value


class OneTimePoint:
    """A lazy array (T, Z, Y, X) that makes what is asked of it, and writes down what that was."""

    def __init__(self, times: int, volume: tuple[int, int, int]) -> None:
        self.shape = (times, *volume)
        self.asked: list[object] = []

    def __getitem__(self, index: tuple) -> np.ndarray:
        self.asked.append(index)
        time, *rest = index
        assert rest == [slice(None)] * 3
        return np.full(self.shape[1:], time, dtype=np.float32)


def test_only_one_time_point_is_in_memory(gated, one) -> None:
    gated.gate.set()
    peaks = []
    volume = (40, 60, 60)
    for times in (1, 4):
        lazy = OneTimePoint(times, volume)
        image = image_from_layers([Image(np.broadcast_to(np.float32(0), lazy.shape))])
        segmentation = LayerSegmentation(replace(image, arrays=(lazy,)), load_model(one), Settings.draft())
        steps = segmentation.steps()
        tracemalloc.start()
        next(steps)
        assert lazy.asked == [(0, *[slice(None)] * 3)]
        for _ in steps:
            pass
        result = segmentation.result
        peaks.append(tracemalloc.get_traced_memory()[1] - result.labels.nbytes)
        tracemalloc.stop()
        assert [index[0] for index in lazy.asked] == list(range(times))
    assert peaks[1] < peaks[0] + 4 * np.prod(volume) / 2


def test_a_time_point_that_was_not_saved_is_not_forgotten(one, series, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    image = image_from_layers([Image(series)])
    segmentation = LayerSegmentation(image, load_model(one), Settings.fast(), folder=tmp_path / "file" / "runs")
    run_to_end(segmentation)
    assert segmentation.files.problem is not None
    assert segmentation.files.problem.startswith(f"the run is not saved in {tmp_path / 'file' / 'runs'}: ")


def test_dask_arrays(viewer, widget, choose, finish, one, series) -> None:
    viewer.add_image(da.from_array(series, chunks=(1, 5, 14, 13)))
    choose(one)
    widget.channels.time.value = "all"
    assert widget.run() is not None, messages()
    finish()
    np.testing.assert_array_equal(viewer.layers[-1].data[1], expected_labels(one, series[1:]))
