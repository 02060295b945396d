"""The widget opens with what the last run was started with, whatever is in the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from conftest import PATIENCE_MS, messages
from hypothesis import given
from hypothesis import strategies as st
from napari import settings as napari_settings
from random_model import RandomModel

from napari_nnunet_cpu.models.folder import CHECKPOINTS
from napari_nnunet_cpu.resources import usable_cores
from napari_nnunet_cpu.settings import PRESETS
from napari_nnunet_cpu.viewer.widget import run_options
from napari_nnunet_cpu.viewer.widget.preferences import Preferences, chosen, read, remember
from napari_nnunet_cpu.viewer.widget.widget import SegmentWidget

FILE = "napari-nnunet-cpu.yaml"
ROOT = Path(os.path.abspath(os.sep))


@pytest.fixture
def open_again(viewer, qtbot) -> Callable[[], SegmentWidget]:
    """Opens another widget as the next session does: with nothing but the file."""

    def open_again() -> SegmentWidget:
        napari_settings._clear_plugin_settings_cache()
        widget = SegmentWidget(viewer)
        viewer.window.add_dock_widget(widget)
        qtbot.waitUntil(lambda: not widget.model.problem.startswith("reading"), timeout=PATIENCE_MS)
        return widget

    return open_again


def shown(widget: SegmentWidget) -> Preferences:
    return chosen(widget.model, widget.run_options)


def test_a_run_is_what_the_next_session_opens_with(
    viewer, widget, choose, finish, gated, open_again, model_folder, image, tmp_path
) -> None:
    assert shown(widget) == Preferences()
    viewer.add_image(image)
    choose(model_folder)
    options = widget.run_options
    options.preset.value, options.step.value, options.mirror.value = "draft", 0.7, True
    options.threads.value, options.postprocess.value = 1, True
    widget.model.folds.value, widget.model.checkpoint.value = "0", CHECKPOINTS[1]
    choose(model_folder)
    # Nothing is kept of what was only tried, nor when it can't be run.
    assert not (tmp_path / FILE).exists()
    assert widget.run() is None
    assert not (tmp_path / FILE).exists()
    widget.model.checkpoint.value = CHECKPOINTS[0]
    choose(model_folder)
    options.postprocess.value = False
    gated.gate.set()
    assert widget.run() is not None, messages()
    finish()
    threads = None if options.default_threads == 1 else 1
    expected = Preferences(model=model_folder, folds="0", preset="draft", step=0.7, mirror=True, threads=threads)
    assert shown(widget) == expected

    again = open_again()
    assert shown(again) == expected
    assert [model.folder for model in again.model.models] == [model_folder]
    assert again.run_options.advanced.value
    options.preset.value = "exact"
    assert shown(open_again()) == expected


def test_the_file_holds_only_what_is_not_as_by_default(widget, tmp_path) -> None:
    remember(Preferences(model=ROOT / "model", preset="exact"))
    assert yaml.safe_load((tmp_path / FILE).read_text()) == {
        "last_run": {"model": str(ROOT / "model"), "preset": "exact"}
    }


def test_it_is_written_once(widget, monkeypatch) -> None:
    stored = napari_settings.get_plugin_settings("napari-nnunet-cpu")
    saved = []
    monkeypatch.setattr(type(stored), "save", lambda self: saved.append(self.last_run.preset))
    remember(Preferences(model=ROOT / "model", preset="exact", step=0.3, folds="1"))
    assert saved == ["exact"]
    remember(Preferences(model=ROOT / "model", preset="exact", step=0.3, folds="1"))
    assert saved == ["exact"]


def test_nothing_remembered(open_again) -> None:
    widget = open_again()
    assert shown(widget) == Preferences()
    assert widget.model.info.value == "Choose a model folder, a fold folder or an exported zip."
    assert not widget.run_options.advanced.value


def test_a_model_that_is_gone(widget, open_again, tmp_path) -> None:
    remember(Preferences(model=tmp_path / "gone", preset="exact"))
    again = open_again()
    assert again.model.models == ()
    assert again.model.path.value == tmp_path / "gone"
    assert str(tmp_path / "gone") in again.model.info.value
    assert again.run_options.preset.value == "exact"
    assert not again.run_options.advanced.value
    assert messages() == []


def test_the_choice_of_several_models_and_another_to_average(widget, open_again, tmp_path) -> None:
    flat = RandomModel(patch=(16, 16), spacing=(1.0, 1.0)).write(tmp_path)
    full, other = RandomModel(seed=1).write(tmp_path), RandomModel(seed=2).write(tmp_path / "other")
    expected = Preferences(model=full.parent, of_these=(full,), average_with=other)
    remember(expected)
    again = open_again()
    assert shown(again) == expected
    assert set(again.model.found.choices) == {flat, full, other}
    assert [model.folder for model in again.model.models] == [full]
    assert again.run_options.advanced.value


@pytest.mark.parametrize("there", [True, False])
def test_a_device_stays_chosen_where_there_is_such_a_one(widget, open_again, monkeypatch, qtbot, there: bool) -> None:
    found = [("CPU, 8 cores", "cpu"), ("GPU 0, fast", "cuda:0")]
    monkeypatch.setattr(run_options, "_device_choices", lambda: found if there else found[:1])
    remember(Preferences(device="cuda:0"))
    device = open_again().run_options.device
    qtbot.waitUntil(lambda: "CPU, 8 cores" in [name for name, _ in device._widget._mgui_get_choices()])
    assert (device.current_choice, device.value) == found[1 if there else 0]


HARM = [
    ("", Preferences()),
    ("[1, 2", Preferences()),
    ("- a list", Preferences()),
    ("last_run: none", Preferences()),
    ("!!python/object/apply:os.system ['exit 1']", Preferences()),
    ("last_run: {preset: wild, step: 0.9}", Preferences(step=0.9)),
    ("last_run: {step: 7, preset: exact}", Preferences(preset="exact")),
    ("last_run: {step: .nan, unknown: 3, threads: -1}", Preferences()),
    ("last_run: {threads: 1000, checkpoint: ../../etc/passwd, mirror: 5}", Preferences()),
    ("last_run: {device: tpu, folds: every, postprocess: [1]}", Preferences()),
    ("last_run: {model: relative/folder, average_with: ~nobody/model, of_these: ''}", Preferences()),
    ('last_run: {model: "/nul\\0", preset: draft}', Preferences(preset="draft")),
]


def test_nothing_in_the_file_does_harm(widget, open_again, tmp_path, subtests) -> None:
    for content, expected in HARM:
        with subtests.test(content):
            (tmp_path / FILE).write_text(content)
            again = open_again()
            assert shown(again) == expected
            assert messages() == []
            again.close()


def test_a_file_that_can_not_be_written_disturbs_no_run(
    viewer, widget, choose, finish, gated, model_folder, image, tmp_path
) -> None:
    viewer.add_image(image)
    choose(model_folder)
    (tmp_path / FILE).mkdir()
    gated.gate.set()
    widget.run()
    finish()
    assert len(viewer.layers) == 2
    assert messages() == []


def test_without_the_plugin_there_is_nothing_to_remember() -> None:
    remember(Preferences(preset="exact"))
    assert read() == Preferences()


def test_the_manifest_says_what_the_widget_knows(npe2pm) -> None:
    with npe2pm.tmp_plugin(package="napari-nnunet-cpu") as plugin:
        assert read() == Preferences()
        known = plugin.manifest.contributions.configurations["last_run"].properties
    assert list(known) == [field.name for field in fields(Preferences)]
    assert tuple(known["checkpoint"].enum) == CHECKPOINTS
    assert tuple(known["preset"].enum) == PRESETS


paths = st.lists(st.text("ab c.é'\\n", min_size=1), min_size=1, max_size=3).map(lambda parts: ROOT.joinpath(*parts))


@given(
    st.builds(
        Preferences,
        model=st.none() | paths,
        of_these=st.lists(paths, max_size=3).map(tuple),
        average_with=st.none() | paths,
        folds=st.sampled_from(["auto", "all", "0", "0,1,4", "1, all"]),
        checkpoint=st.sampled_from(CHECKPOINTS),
        device=st.sampled_from(["cpu", "cuda:0", "cuda:12", "mps"]),
        preset=st.sampled_from(PRESETS),
        step=st.floats(0.1, 1.0),
        mirror=st.sampled_from([None, True, False]),
        threads=st.none() | st.integers(1, usable_cores()),
        postprocess=st.booleans(),
    )
)
def test_what_is_stored_is_what_comes_back(preferences: Preferences) -> None:
    stored = preferences.as_stored()
    assert Preferences.from_stored(yaml.safe_load(yaml.safe_dump(stored))) == preferences
    assert preferences.advanced == (
        replace(preferences, model=None, of_these=(), device="cpu", preset="fast") != Preferences()
    )
