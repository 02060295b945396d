"""The preview is refreshed for the slices that changed and no others, and a run's focus is what the viewer shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_nnunet_cpu.predict import Focus, RunControl
from napari_nnunet_cpu.viewer.image.layers import LayerImage, image_from_layers
from napari_nnunet_cpu.viewer.results.layer_result import LayerResult
from napari_nnunet_cpu.viewer.run.focus_watch import FocusWatch
from napari_nnunet_cpu.viewer.run.layer_segmentation import FinalLabels
from napari_nnunet_cpu.viewer.run.preview import Preview

SHAPE = (6, 8, 10)
NAMES = {0: "background", 1: "liver"}
METADATA = {"patient": "someone", "nnunet": "of an earlier run"}


class Desk:
    """A viewer without a window, an image in it, and its preview, whose refreshes are counted."""

    def __init__(self, shape: tuple[int, ...] = SHAPE, **options: object) -> None:
        self.viewer = ViewerModel()
        self.layer = self.viewer.add_image(np.zeros(shape, np.float32), name="scan", metadata=METADATA, **options)
        self.image: LayerImage = image_from_layers([self.layer])
        self.preview = Preview(self.viewer, self.image, NAMES, np.uint8)
        self.preview.show()
        self.refreshed = 0
        assert self.preview.layer is not None
        self.preview.layer.refresh = self._count

    def _count(self, *_: object, **__: object) -> None:
        self.refreshed += 1

    def refreshes(self, *place: int | slice) -> bool:
        """Whether labels at this place of the layer are refreshed."""
        before, data = self.refreshed, self.preview.layer.data
        self.preview.paint(FinalLabels(place, np.ones(data[place].shape, np.uint8)))
        assert data[place].all()
        self.preview.finish()
        return self.refreshed > before


@pytest.fixture
def desk(qapp) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def make(*arguments: object, **options: object) -> Desk:
        desks.append(Desk(*arguments, **options))
        return desks[-1]

    yield make
    for made in desks:
        made.preview.remove()


BOX = (slice(2, 5), slice(1, 4), slice(6, 10))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"scale": (3, 2, 0.5), "translate": (40, -7, 5)}], ids=["voxels", "mm"])
def test_a_box_is_refreshed_in_the_slices_that_it_touches(desk, axis: int, options: dict) -> None:
    desk = desk(**options)
    desk.viewer.dims.order = (axis, *(other for other in range(3) if other != axis))
    shown = []
    for slice_number in range(SHAPE[axis]):
        desk.viewer.dims.set_current_step(axis, slice_number)
        if desk.refreshes(*BOX):
            shown.append(slice_number)
    assert shown == list(range(BOX[axis].start, BOX[axis].stop))


def test_a_time_point_is_refreshed_where_it_is_shown(desk) -> None:
    desk = desk((3, *SHAPE))
    desk.viewer.dims.set_current_step(1, 3)
    for shown in range(3):
        desk.viewer.dims.set_current_step(0, shown)
        assert [desk.refreshes(time, *BOX) for time in range(3)] == [time == shown for time in range(3)]
    desk.viewer.dims.set_current_step(1, 5)
    assert not desk.refreshes(2, *BOX)


def test_a_hidden_preview_is_not_refreshed(desk) -> None:
    desk = desk()
    desk.viewer.dims.set_current_step(0, 3)
    desk.preview.layer.visible = False
    assert not desk.refreshes(*BOX)
    desk.preview.layer.visible = True
    assert desk.refreshes(*BOX)


def test_what_was_not_shown_yet_is_shown_at_the_end_after_leaving_the_slice(desk) -> None:
    """A slice that waits for its refresh is refreshed, even if what follows lies elsewhere."""
    desk = desk()
    desk.viewer.dims.set_current_step(0, 3)
    desk.preview.paint(FinalLabels(BOX, np.ones((3, 3, 4), np.uint8)))  # at once
    before = desk.refreshed
    desk.preview.paint(FinalLabels(BOX, np.ones((3, 3, 4), np.uint8)))  # so soon after it waits
    desk.viewer.dims.set_current_step(0, 0)
    desk.preview.paint(FinalLabels(BOX, np.ones((3, 3, 4), np.uint8)))
    desk.preview.finish()
    assert desk.refreshed == before + 1
    desk.preview.finish()
    assert desk.refreshed == before + 1


def test_in_3d_everything_is_in_view_and_refreshed_at_the_end(desk) -> None:
    desk = desk()
    desk.viewer.dims.ndisplay = 3
    desk.preview.paint(FinalLabels(BOX, np.ones((3, 3, 4), np.uint8)))
    assert desk.refreshed == 0
    desk.preview.finish()
    assert desk.refreshed == 1


def test_the_result_keeps_the_metadata_of_its_image(desk) -> None:
    desk = desk()
    layer = desk.preview.layer
    provenance = {"image": {"name": "scan"}, "runs": []}
    found = np.random.default_rng(0).integers(0, 2, SHAPE).astype(np.uint8)
    assert desk.preview.become(LayerResult(found, NAMES, provenance)) is layer
    assert layer.metadata == {"patient": "someone", "nnunet": provenance}
    assert desk.layer.metadata == METADATA
    assert layer.name == "scan labels"
    assert layer.editable
    assert desk.refreshed == 1
    np.testing.assert_array_equal(layer.data, found)
    assert desk.preview.layer is None


@pytest.fixture
def watched() -> tuple[ViewerModel, RunControl, FocusWatch]:
    viewer, control = ViewerModel(), RunControl()
    layer = viewer.add_image(np.zeros(SHAPE, np.float32), scale=(2, 1, 1))
    viewer.dims.point = (4, 0, 0)
    viewer.scene.camera.center = (4, 5)
    return viewer, control, FocusWatch(viewer, layer, image_from_layers([layer]), control)


def test_the_focus_follows_sliders_camera_and_axes(watched) -> None:
    viewer, control, watch = watched
    assert control.focus is None
    watch.start()
    assert control.focus == Focus((2, 4, 5), 0)
    viewer.dims.set_current_step(0, 5)
    assert control.focus == Focus((5, 4, 5), 0)
    viewer.scene.camera.center = (1, 7)  # panned
    assert control.focus == Focus((5, 1, 7), 0)
    viewer.dims.order = (1, 0, 2)
    assert control.focus is not None
    assert control.focus.axis == 1
    viewer.dims.order = (0, 1, 2)
    viewer.dims.ndisplay = 3
    assert control.focus is not None
    assert control.focus.axis is None
    viewer.scene.camera.center = (6, 2, 3)
    assert control.focus == Focus((3, 2, 3), None)


def test_the_focus_is_followed_once_and_until_the_end(watched) -> None:
    viewer, control, watch = watched
    watch.start()
    watch.start()
    watch.stop()
    before = control.focus
    viewer.dims.set_current_step(0, 5)
    viewer.scene.camera.center = (1, 7)
    assert control.focus == before


def test_a_layer_of_other_axes_has_no_focus(watched) -> None:
    viewer, control, watch = watched
    watch.start()
    watch._layer.data = np.zeros((8, 10), np.float32)
    viewer.scene.camera.center = (1, 7)
    assert control.focus is None
