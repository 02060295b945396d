import pytest

from napari_nnunet_cpu.events import Stage, StageStarted, TileDone, Waiting, duration, size


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_events_say_what_happens():
    assert TileDone(3, 12, 95.2).text == "3 of 12 tiles, 1 min 35 s left"
    assert Waiting("", 1).text == "waiting for the run before it"
    assert Waiting("scan", 3).text == "scan: waiting for the 3 runs before it"
    texts = [StageStarted(stage).text for stage in Stage]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "1 MB"), (1.2e6, "1 MB"), (999.4e6, "999 MB"), (999.6e6, "1.0 GB"), (12.34e9, "12.3 GB")],
)
def test_size(count, text):
    assert size(count) == text
