from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from random_model import RandomModel, postprocessing_document, smooth_image

from napari_nnunet_cpu import Case, Settings, load_model, segment
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.events import Event, TileDone
from napari_nnunet_cpu.export import keep_largest
from napari_nnunet_cpu.models import read_postprocessing

FOUND = "crossval_results_folds_0"


def labels() -> np.ndarray:
    array = np.zeros((3, 6, 9), np.uint8)
    array[0, 0, :3] = 1
    array[1, 1, 3] = 2  # touches the former at a corner
    array[2, 4:6, 6:8] = 1
    array[0, 5, 0] = 2
    return array


def test_the_largest_component_stays() -> None:
    found = keep_largest(labels(), (1,))
    assert (found == 1).sum() == 4
    assert (found[2, 4:6, 6:8] == 1).all()
    assert (found == 2).sum() == 2


def test_labels_that_touch_are_one_component() -> None:
    array = labels()
    array[1, 2, 4] = 2  # five in a row, by their corners
    found = keep_largest(array, (1, 2))
    assert (found == 1).sum() == 3
    assert (found == 2).sum() == 2
    assert (found[0, 0, :3] == 1).all()


def test_of_equal_components_all_stay() -> None:
    assert np.array_equal(keep_largest(labels(), (2,)), labels())


def test_nothing_to_remove() -> None:
    empty = np.zeros((2, 3, 4), np.uint16)
    assert np.array_equal(keep_largest(empty, (1, 2)), empty)
    assert keep_largest(empty, (1,)).dtype == np.uint16


@pytest.mark.parametrize(
    ("removed", "steps"),
    [([], ()), ([[1, 2], 1], ((1, 2), (1,))), ([[[1, 2], 2]], ((1, 2),))],
    ids=["none", "all-then-one", "regions"],
)
def test_steps_are_read_from_json(tmp_path: Path, removed: list[object], steps: object) -> None:
    model = load_model(RandomModel(patch=(8, 8, 8), postprocessing=removed).write(tmp_path))
    assert read_postprocessing([model]) == steps


def test_the_folds_in_use_come_first(tmp_path: Path) -> None:
    folder = RandomModel(patch=(8, 8, 8), folds=("0", "1"), postprocessing=[1]).write(tmp_path)
    other = folder / "crossval_results_folds_0"
    other.mkdir()
    (other / "postprocessing.json").write_text(json.dumps(postprocessing_document([2])))
    assert read_postprocessing([load_model(folder)]) == ((1,),)
    assert read_postprocessing([load_model(folder, folds=[0])]) == ((2,),)
    assert read_postprocessing([load_model(folder, folds=[1])]) == ((2,),)


def test_an_ensemble_has_its_own(tmp_path: Path) -> None:
    folders = [RandomModel(patch=(8, 8), spacing=(1, 1)).write(tmp_path), RandomModel(patch=(8, 8, 8)).write(tmp_path)]
    models = [load_model(folder) for folder in folders]
    with pytest.raises(ModelError, match=r"no postprocessing\.json for 2d and 3d_fullres"):
        read_postprocessing(models)
    found = folders[0].parent / "ensembles" / f"ensemble___{folders[1].name}___{folders[0].name}___0_1_2_3_4"
    found.mkdir(parents=True)
    (found / "postprocessing.json").write_text(json.dumps(postprocessing_document([[1, 2]])))
    assert read_postprocessing(models) == ((1, 2),)


def test_it_is_applied_when_asked_for(tmp_path: Path) -> None:
    model = load_model(RandomModel(patch=(8, 8, 8), postprocessing=[[1, 2], 1]).write(tmp_path))
    case = Case(smooth_image((14, 15, 17), seed=2), (1.0, 1.0, 1.0))
    plain = segment(case, model, Settings.fast(threads=1))
    events: list[Event] = []
    result = segment(case, model, Settings.fast(threads=1, postprocess=True), events.append)
    # No label is final before the postprocessing.
    assert {event.final for event in events if isinstance(event, TileDone)} == {()}
    expected = keep_largest(keep_largest(plain.labels, (1, 2)), (1,))
    assert np.array_equal(result.labels, expected)
    assert not np.array_equal(result.labels, plain.labels)
    assert (plain.provenance["postprocessing"], result.provenance["postprocessing"]) == (None, [[1, 2], [1]])


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    folder = RandomModel(patch=(8, 8, 8)).write(tmp_path)
    (folder / FOUND).mkdir()
    marker = tmp_path / "opened"
    (folder / FOUND / "postprocessing.pkl").write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    model = load_model(folder)
    with pytest.raises(ModelError, match=r"postprocessing\.pkl is not opened, because it can run code"):
        segment(Case(smooth_image((9, 9, 9)), (1, 1, 1)), model, Settings.fast(postprocess=True))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"postprocessing_fns": ["os.system"]}, "postprocessing_fns.0"),
        ({"postprocessing_fns": []}, "must be equally long"),
        ({"postprocessing_kwargs": [{"labels_or_regions": "1"}]}, "must hold label values, found '1'"),
        ({"postprocessing_kwargs": [{"labels_or_regions": []}]}, "must hold label values"),
        ({"postprocessing_kwargs": [{"labels_or_regions": [True]}]}, "must hold label values"),
        ({"postprocessing_kwargs": [{"labels_or_regions": 1, "background_label": 3}]}, "background_label"),
        ({"postprocessing_kwargs": 3}, "postprocessing_kwargs"),
    ],
)
def test_strange_steps_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    folder = RandomModel(patch=(8, 8, 8), postprocessing=[1]).write(tmp_path)
    path = folder / FOUND / "postprocessing.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        read_postprocessing([load_model(folder)])


def test_an_ensemble_takes_the_folder_of_its_folds(tmp_path: Path) -> None:
    folds = ("0", "1")
    folders = [
        RandomModel(patch=(8, 8), spacing=(1, 1), folds=folds).write(tmp_path),
        RandomModel(patch=(8, 8, 8), folds=folds).write(tmp_path),
    ]
    for number, used in enumerate(("0", "0_1", "0_1_2_3_4"), start=1):
        found = folders[0].parent / "ensembles" / f"ensemble___{folders[0].name}___{folders[1].name}___{used}"
        found.mkdir(parents=True)
        (found / "postprocessing.json").write_text(json.dumps(postprocessing_document([number])))
    assert read_postprocessing([load_model(folder) for folder in folders]) == ((2,),)
    assert read_postprocessing([load_model(folder, folds=[1, 0]) for folder in folders]) == ((2,),)
    assert read_postprocessing([load_model(folder, folds=[0]) for folder in folders]) == ((1,),)


def test_steps_are_bounded_and_done_once(tmp_path: Path) -> None:
    model = RandomModel(patch=(8, 8, 8), postprocessing=[1] * 500 + [[2, 1]])
    assert read_postprocessing([load_model(model.write(tmp_path / "a"))]) == ((1,), (1, 2))
    model = RandomModel(patch=(8, 8, 8), postprocessing=[1] * 2000)
    with pytest.raises(ModelError, match="postprocessing_fns: List should have at most 1000 items"):
        read_postprocessing([load_model(model.write(tmp_path / "b"))])
