from pathlib import Path

import numpy as np
import pytest
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Case, Run, Settings, load_model, segment
from napari_nnunet_cpu.errors import CaseError, SettingsError
from napari_nnunet_cpu.events import Stage, StageStarted, TileDone
from napari_nnunet_cpu.predict import Segmentation, run_to_end

SMALL = RandomModel(patch=(8, 8, 8))
SETTINGS = Settings.fast(engine="torch", device="cpu")


@pytest.fixture
def case() -> Case:
    return Case(smooth_image((14, 15, 16)), (1.0, 1.0, 1.0))


def test_stages_and_tiles_are_told_in_order(case: Case, tmp_path: Path) -> None:
    events: list[object] = []
    result = segment(case, load_model(SMALL.write(tmp_path)), SETTINGS, events.append)
    assert events[0] == StageStarted(Stage.PREPARE)
    assert events[1] == StageStarted(Stage.LOAD)
    assert events[2] == StageStarted(Stage.PREDICT)
    assert events[-1] == StageStarted(Stage.EXPORT)
    tiles = events[3:-1]
    assert len(tiles) == result.provenance["tiles"] > 1
    assert [(tile.done, tile.total) for tile in tiles if isinstance(tile, TileDone)] == [
        (done, len(tiles)) for done in range(1, len(tiles) + 1)
    ]


def test_segment_is_a_drained_run(case: Case, tmp_path: Path) -> None:
    model = load_model(SMALL.write(tmp_path))
    run = Run(case, model, SETTINGS)
    list(run.compute())
    assert np.array_equal(segment(case, model, SETTINGS).labels, run.labels())
    assert len(np.unique(run.labels())) == 3


def test_stopped_stages_give_no_result(case: Case, tmp_path: Path) -> None:
    segmentation = Segmentation(case, load_model(SMALL.write(tmp_path)), SETTINGS)
    segmentation.control.stop()
    assert list(segmentation.steps()) == [StageStarted(stage) for stage in (Stage.PREPARE, Stage.LOAD, Stage.PREDICT)]
    assert segmentation.result is None
    with pytest.raises(SettingsError, match="the segmentation was stopped"):
        run_to_end(segmentation)
    segmentation.control.restart()
    assert run_to_end(segmentation) is segmentation.result


def test_what_does_not_fit_is_refused(case: Case, tmp_path: Path) -> None:
    model = load_model(RandomModel(channels=("T1", "T2")).write(tmp_path))
    with pytest.raises(CaseError, match="T1, T2"):
        segment(case, model, SETTINGS)


def test_boxes_called_final_are_of_the_result(case: Case, tmp_path: Path) -> None:
    """Not those of a first stage, of a member of an ensemble, or of labels that are still to be postprocessed."""
    low = RandomModel(patch=(8, 8, 8), spacing=(2.0, 2.0, 2.0), called="3d_lowres")
    cascade = load_model(RandomModel(patch=(8, 8, 8), first_stage=low).write(tmp_path / "cascade"))
    single = load_model(RandomModel(patch=(8, 8, 8), postprocessing=[1]).write(tmp_path / "single"))

    def parts(model: object, **options: object) -> set[str]:
        events: list[object] = []
        segment(case, model, Settings.fast(engine="torch", device="cpu", **options), events.append)
        return {event.part for event in events if isinstance(event, TileDone) and event.final}

    assert parts(single) == {""}
    assert parts(single, probabilities=True) == {""}
    assert parts(cascade) == {"3d_cascade_fullres"}
    assert parts([single, single]) == set()
    assert parts(single, postprocess=True) == set()
