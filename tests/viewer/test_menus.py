"""The plugin is where users look for it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_nnunet_cpu import read_case, sample_image
from napari_nnunet_cpu.viewer.widget.widget import SegmentWidget


def _action(menu, *path: str):
    """The entry under a menu whose texts hold the words of `path`, one level each."""
    for action in menu.actions():
        if path[0].lower() in action.text().replace("&", "").lower():
            if len(path) == 1:
                return action
            found = _action(action.menu(), *path[1:])
            if found is not None:
                return found
    return None


@pytest.mark.parametrize(
    ("menu", "path"),
    [("plugins_menu", ("nnU-Net segmentation",)), ("layers_menu", ("Segment", "nnU-Net segmentation"))],
    ids=["plugins", "layers-segment"],
)
def test_menu_opens_the_widget(viewer, menu: str, path: tuple[str, ...]) -> None:
    menu = getattr(viewer.window, menu)
    menu.aboutToShow.emit()
    action = _action(menu, *path)
    assert action is not None, [entry.text() for entry in menu.actions()]
    action.trigger()
    (dock,) = viewer.window.dock_widgets.values()
    widget = getattr(dock, "_magic_widget", dock)
    assert isinstance(widget, SegmentWidget)
    assert widget.run_options.preset.value == "fast"


def test_open_sample_gives_the_head(viewer) -> None:
    (layer,) = viewer.open_sample("napari-nnunet-cpu", "t1_head")
    case = read_case(sample_image())
    np.testing.assert_array_equal(layer.data, case.channels[0])
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    np.testing.assert_allclose(np.abs(layer.scale), case.spacing_mm)
