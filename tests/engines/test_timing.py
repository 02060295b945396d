import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_nnunet_cpu import TrainedModel
from napari_nnunet_cpu.engines.timing import EngineTiming, measure_timing, read_timing


class Timed:
    """An engine whose first pass takes longer than those after it, on a clock of its own."""

    name, device, precision, threads, streams, folds, reason = "timed", "cpu", "f32", 1, 1, 1, ""
    now = 0.0

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, patch: np.ndarray, fold: int) -> np.ndarray:
        Timed.now += self.seconds if self.shapes else 10 * self.seconds
        self.shapes.append(patch.shape)
        return patch


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    Timed.now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: Timed.now)


def files(cache: Path) -> list[Path]:
    return list((cache / "engine-timing").iterdir())


def test_the_second_pass_counts(model: TrainedModel, cache: Path) -> None:
    openvino, torch = Timed(0.5), Timed(0.25)
    timing = measure_timing(model, 2, openvino, torch)
    assert timing == EngineTiming(openvino=0.5, torch=0.25)
    assert openvino.shapes == torch.shapes == [(1, 8, 8, 8)] * 2


def test_a_pass_of_two_at_a_time_counts_half(model: TrainedModel, cache: Path) -> None:
    two = Timed(0.5)
    two.streams = 2
    timing = measure_timing(model, 2, two, Timed(0.375))
    assert timing == EngineTiming(openvino=0.25, torch=0.375)
    assert timing.faster == "openvino"


def test_it_is_remembered_for_the_network_and_the_threads(model: TrainedModel, cache: Path) -> None:
    assert read_timing(model, 2) is None
    timing = measure_timing(model, 2, Timed(0.5), Timed(0.25))
    assert read_timing(model, 2) == timing
    assert read_timing(model, 1) is None
    assert read_timing(replace(model, channel_names=("CT", "PET")), 2) is None
    other_weights = replace(model, checkpoint_sha256=model.checkpoint_sha256[::-1])
    assert read_timing(other_weights, 2) == timing


def test_another_computer_measures_for_itself(
    model: TrainedModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_timing(model, 1, Timed(0.5), Timed(0.25))
    monkeypatch.setattr(platform, "node", lambda: "another")
    assert read_timing(model, 1) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2]",
        "{",
        '{"openvino": 1.0}',
        '{"openvino": 1.0, "torch": "fast"}',
        '{"openvino": 0.0, "torch": 1.0}',
        '{"openvino": NaN, "torch": 1.0}',
        "\udcff",
    ],
)
def test_what_is_broken_is_measured_again(model: TrainedModel, cache: Path, content: str) -> None:
    timing = measure_timing(model, 1, Timed(0.5), Timed(0.25))
    (file,) = files(cache)
    file.write_bytes(content.encode(errors="surrogateescape"))
    assert read_timing(model, 1) is None
    assert measure_timing(model, 1, Timed(0.5), Timed(0.25)) == read_timing(model, 1) == timing


def test_there_may_be_no_place_to_remember_it(model: TrainedModel, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert measure_timing(model, 1, Timed(0.5), Timed(0.25)) == EngineTiming(0.5, 0.25)
    assert read_timing(model, 1) is None


@pytest.mark.parametrize(
    ("timing", "faster"),
    [(EngineTiming(1.0, 1.5), "openvino"), (EngineTiming(1.5, 1.0), "torch"), (EngineTiming(1.0, 1.0), "openvino")],
)
def test_the_faster_one(timing: EngineTiming, faster: str) -> None:
    assert timing.faster == faster


def test_what_people_read() -> None:
    assert str(EngineTiming(1.23456, 0.5)) == "measured on this computer: openvino 1.23 s a pass, torch 0.5 s"
