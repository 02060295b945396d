"""What the widget says is true now, and said once, where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import PATIENCE_MS, messages, type_into
from magicgui.widgets import Label
from napari.components import ViewerModel

from napari_nnunet_cpu import Settings, segment_layer
from napari_nnunet_cpu.errors import CaseError


def lines(widget) -> list[str]:
    """Everything that the widget's labels say."""
    parts, found = [widget], []
    while parts:
        part = parts.pop()
        parts += list(part) if hasattr(part, "__iter__") else []
        if isinstance(part, Label):
            found.append(str(part.value))
    return found


def said(widget, text: str) -> int:
    """How often the widget says so."""
    return sum(text in line for line in lines(widget))


def test_a_model_that_was_missing_is_no_complaint_any_more(viewer, widget, choose, model_folder, image) -> None:
    viewer.add_image(image, name="scan")
    assert widget.run() is None
    assert said(widget, "Choose a model") == 2  # where it is chosen, and beside the button that was pressed
    assert len(messages()) == 1
    choose(model_folder)
    assert said(widget, "Choose a model") == 0
    assert widget.status.value == ""


def test_an_image_that_was_missing_is_no_complaint_any_more(viewer, widget, choose, model_folder, image) -> None:
    choose(model_folder)
    assert said(widget, "no image layer is chosen") == 1
    assert widget.run() is None
    assert said(widget, "no image layer is chosen") == 2
    viewer.add_image(image)
    assert said(widget, "no image layer is chosen") == 0


MENDED = {
    "axes": (lambda w, v: type_into(w.channels.axes, "Z, Y, Y"), lambda w, v: type_into(w.channels.axes, "")),
    "spacing": (lambda w, v: type_into(w.channels.spacing, "0"), lambda w, v: type_into(w.channels.spacing, "2")),
    "part": (
        lambda w, v: setattr(w.part.kind, "value", "typed"),
        lambda w, v: setattr(w.part.kind, "value", "everything"),
    ),
    "bounds": (
        lambda w, v: (setattr(w.part.kind, "value", "typed"), setattr(w.part.bounds, "value", "1:2")),
        lambda w, v: setattr(w.part.bounds, "value", "0:9, 0:9, 0:9"),
    ),
    "labels": (
        lambda w, v: (setattr(w.result.layer, "value", v.layers["mine"]), setattr(w.result.values, "value", "x")),
        lambda w, v: setattr(w.result.values, "value", ""),
    ),
    "unit": (
        lambda w, v: setattr(v.layers["scan"], "units", ("s", "s", "s")),
        lambda w, v: setattr(v.layers["scan"], "units", ("mm", "mm", "mm")),
    ),
}


@pytest.mark.parametrize("what", MENDED)
def test_a_complaint_goes_when_it_is_mended(
    viewer, widget, choose, gated, model_folder, image, finish, what: str
) -> None:
    viewer.add_image(image + 1000, name="scan")
    viewer.add_labels(np.zeros(image.shape, np.uint8), name="mine")
    choose(model_folder)
    spoil, mend = MENDED[what]
    spoil(widget, viewer)
    assert widget.run() is None
    (message,) = messages()
    assert widget.status.value == message
    assert said(widget, message) <= 2  # beside the button, and where it is mended
    mend(widget, viewer)
    assert said(widget, message) == 0
    gated.gate.set()
    assert widget.run() is not None
    finish()
    assert widget.status.value.startswith("done in ")


def test_what_was_saved_is_no_news_in_a_later_run(
    viewer, widget, choose, gated, model_folder, image, finish, tmp_path, qtbot
):
    gated.gate.set()
    viewer.add_image(image + 1000, name="scan6")
    choose(model_folder)
    widget.run()
    finish()
    done = widget.status.value
    widget.session.folder.value = tmp_path
    widget.session.save()
    qtbot.waitUntil(lambda: widget.session.note.value.startswith("saved scan6 labels as scan6"), timeout=PATIENCE_MS)
    assert widget.status.value == done  # which says nothing of that
    gated.gate.clear()
    widget.run()
    assert said(widget, "saved") == 0
    gated.gate.set()
    finish()
    assert said(widget, "saved") == 0
    assert messages() == []


def test_the_end_of_a_run_is_no_news_of_the_next_image(
    viewer, widget, choose, gated, model_folder, image, finish
) -> None:
    gated.gate.set()
    viewer.add_image(image + 1000, name="scan")
    choose(model_folder)
    widget.run()
    finish()
    assert widget.status.value.startswith("done in ")
    viewer.add_labels(np.zeros(image.shape, np.uint8))  # of which the run knows nothing
    assert widget.status.value.startswith("done in ")
    viewer.add_image(image, name="next")
    assert widget.status.value == ""


CHANGES = {
    "was rescaled or moved": lambda layer: setattr(layer, "scale", (3, 1, 1)),
    "got other data": lambda layer: setattr(layer, "data", layer.data * 2),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("priority", [0, -1])
def test_an_image_that_changed_during_the_run_is_told_of(
    viewer, widget, choose, gated, model_folder, image, finish, qtbot, change: str, priority: int
) -> None:
    layer = viewer.add_image(image + 1000, name="scan")
    choose(model_folder)
    live = widget.run() if priority == 0 else widget.run_in_background()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    CHANGES[change](layer)
    layer.name = "renamed"
    gated.gate.set()
    qtbot.waitUntil(lambda: not live.running, timeout=PATIENCE_MS)
    text = f"renamed {change} during the run: the labels are those of the image before"
    assert (widget.status if priority == 0 else widget.queue_button.note).value.endswith(text)
    assert said(widget, text) == 1
    np.testing.assert_allclose(viewer.layers["scan labels"].scale, (1, 1, 1))


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_is_not_gone_on_with_on_another_image(
    viewer, widget, choose, gated, model_folder, image, finish, change: str
) -> None:
    layer = viewer.add_image(image + 1000, name="scan")
    choose(model_folder)
    first = widget.run()
    assert gated.entered.acquire(timeout=PATIENCE_MS / 1000)
    gated.let(3)
    widget.cancel()
    gated.allowed.release()
    finish()
    assert widget.run_button.text == "Continue"
    CHANGES[change](layer)
    assert widget.run_button.text == "Run"
    gated.gate.set()
    assert widget.run() is not first
    finish()


@pytest.mark.parametrize("time", [0, 3, -1])
def test_a_time_point_of_an_image_without_time(one, channels, time: int) -> None:
    viewer = ViewerModel()
    viewer.add_image(channels[0], name="scan")
    message = f"^scan has no time, only the axes Z, Y, X; leave the time point {time} out$"
    with pytest.raises(CaseError, match=message):
        segment_layer(viewer, "scan", one, time=time)
    for words in ("current", "all"):
        assert segment_layer(viewer, "scan", one, Settings.draft(), time=words).data.shape == channels[0].shape
