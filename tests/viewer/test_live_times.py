"""What `nnunet-cpu bench --live` measures in its window."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import messages
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.cases import Case, write_labels
from napari_nnunet_cpu.settings import Settings
from napari_nnunet_cpu.viewer import live_times
from napari_nnunet_cpu.viewer.image.layers import image_from_layers
from napari_nnunet_cpu.viewer.live_times import SliceWatch
from napari_nnunet_cpu.viewer.run.live_run import LiveRun


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time that the module sees."""
    now = [100.0]

    class Clock:
        perf_counter = staticmethod(lambda: now[0])

    monkeypatch.setattr(live_times, "time", Clock)
    return now


def test_a_slice_is_final_with_the_last_of_it_that_is_decided(viewer, gated, model_folder, image, clock) -> None:
    """Also where cropping took a part of it away."""
    scan = np.pad(image + 1000, ((3, 0), (0, 6), (5, 0)))
    shown = 4  # which the first row of tiles decides
    layer = viewer.add_image(scan, name="scan")
    viewer.dims.set_current_step(0, shown)
    run = LiveRun(viewer, layer, image_from_layers([layer]), load_model(model_folder), Settings.fast())
    watch = SliceWatch(shown)
    seen: list[tuple[int, float | None]] = []

    def look(event) -> None:
        clock[0] += 1
        watch.see(event)
        seen.append((int((run.preview.layer.data[shown] != 0).sum()), watch.final))

    run.painted.connect(look)
    gated.gate.set()
    run.start()
    run.wait()
    counts = [count for count, _ in seen]
    decided = image[0].size
    assert counts[-1] == decided < scan[shown].size
    first, last = next(n for n, count in enumerate(counts) if count), counts.index(decided)
    assert first < last < len(seen) - 1  # other slices came after it
    assert (watch.first, watch.final) == (first + 1, last + 1)
    assert messages() == []


def test_a_fold_is_measured_on_all_channels_as_the_command_gives_them(
    monkeypatch, capsys, make_napari_viewer, tmp_path
) -> None:
    model = RandomModel(channels=("T1", "T2"), folds=("0", "1")).write(tmp_path)
    files = [tmp_path / "scan_0000.nii.gz", tmp_path / "scan_0001.nii.gz"]
    for file, channel in zip(files, smooth_image((20, 18, 17), channels=2), strict=True):
        write_labels(file, (channel + 400).astype(np.int16), Case(channel[None], (1.0, 1.0, 1.0), name="scan"))
    folds = []
    measured = live_times.live_times

    def note_folds(images, model, settings):
        folds.append(model.folds)
        return measured(images, model, settings)

    monkeypatch.setattr(live_times, "live_times", note_folds)
    monkeypatch.setattr(live_times, "_REST_SECONDS", 0.01)
    monkeypatch.setattr(live_times.napari, "Viewer", make_napari_viewer)
    command = [str(model), "1", *map(str, files), "--preset", "exact", "--engine", "torch", "--memory", "2GB"]
    monkeypatch.setattr(sys, "argv", ["live_times", *command])
    live_times.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < found["first"] <= found["final"] <= found["whole"]
    assert 0 < found["gap_outside"] < found["gap"]
    assert folds == [("1",)]
    assert (found["tiles"], found["precision"]) == (2 * 2 * 2, "f32")


def test_what_napari_makes_once_is_made_before_a_run() -> None:
    """Reading pandas and making the patterns of lines took half a second of the first run's start."""
    program = (
        "import sys, napari_nnunet_cpu.viewer.run.live_run\n"
        "from vispy.visuals.line import dash_atlas\n"
        "made = dash_atlas._make_pattern.cache_info().misses\n"
        "dash_atlas.DashAtlas()\n"
        "print('pandas' in sys.modules, dash_atlas._make_pattern.cache_info().misses - made)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "True 0"
