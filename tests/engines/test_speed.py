"""The speed of the computer is measured once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from napari_nnunet_cpu.engines import speed
from napari_nnunet_cpu.engines.speed import Speed, computer_speed


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path))
    return tmp_path


def test_the_fastest_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock whose ticks get longer, so that the first round of each measurement is the fastest."""
    ticks = itertools.accumulate(itertools.count(start=1))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    assert computer_speed() == Speed(1024**3 / 2, 8 * 2**20 / 12)


def test_it_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = computer_speed()
    monkeypatch.setattr(speed, "_measured", lambda: pytest.fail("measured again"))
    assert computer_speed() == measured


@pytest.mark.parametrize("content", [b"", b"{}", b'{"multiplications": 0.0, "values": 1.0}', b'{"values": 1e400}'])
def test_a_broken_speed_is_measured_again(cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    computer_speed()
    (file,) = (cache / "speed").iterdir()
    file.write_bytes(content)
    monkeypatch.setattr(speed, "_measured", lambda: Speed(3.0, 2.0))
    assert computer_speed() == Speed(3.0, 2.0)
