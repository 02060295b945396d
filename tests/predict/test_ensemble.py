"""Several models as one: their probabilities are averaged."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_model import RandomModel, smooth_image
from steered import StopWhen

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, estimate, load_model, segment
from napari_nnunet_cpu.errors import CaseError, ModelError
from napari_nnunet_cpu.events import Stage, StageStarted
from napari_nnunet_cpu.export import ScratchArray
from napari_nnunet_cpu.predict import Segmentation
from napari_nnunet_cpu.predict import segmentation as segmentation_module
from napari_nnunet_cpu.predict.mean import Mean

SETTINGS = Settings.fast(engine="torch", device="cpu", threads=1)
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}


@pytest.fixture
def case() -> Case:
    return Case(smooth_image((14, 15, 17), seed=2), (1.0, 1.1, 0.9))


def pair(folder: Path, **options: object) -> list[TrainedModel]:
    """Two configurations of one Dataset folder."""
    flat = RandomModel(patch=(8, 8), spacing=(1.0, 1.0), seed=1, **options)
    deep = RandomModel(patch=(8, 8, 8), seed=2, **options)
    return [load_model(model.write(folder)) for model in (flat, deep)]


@pytest.mark.parametrize("options", [{}, REGIONS], ids=["labels", "regions"])
def test_an_ensemble_is_the_mean_of_probabilities(case: Case, tmp_path: Path, options: dict[str, object]) -> None:
    models = pair(tmp_path, **options)
    asked = Settings.fast(engine="torch", device="cpu", threads=1, probabilities=True)
    singles = [segment(case, model, asked) for model in models]
    both = segment(case, models, asked)
    mean = (singles[0].probabilities + singles[1].probabilities) / 2
    np.testing.assert_allclose(both.probabilities, mean, atol=1e-6)
    expected = np.where(mean[1] > 0.5, 2, np.where(mean[0] > 0.5, 1, 0)) if options else mean.argmax(axis=0)
    assert np.array_equal(both.labels, expected)
    assert any(not np.array_equal(both.labels, single.labels) for single in singles)
    assert np.array_equal(segment(case, models[::-1], SETTINGS).labels, both.labels)
    assert [run["model"]["configuration"] for run in both.provenance["runs"]] == ["2d", "3d_fullres"]


def test_a_model_with_itself_is_itself(case: Case, tmp_path: Path) -> None:
    model = pair(tmp_path)[1]
    assert np.array_equal(segment(case, [model, model], SETTINGS).labels, segment(case, model, SETTINGS).labels)
    assert np.array_equal(segment(case, [model], SETTINGS).labels, segment(case, model, SETTINGS).labels)


def test_events_and_cost_are_of_all_members(case: Case, tmp_path: Path) -> None:
    models = pair(tmp_path)
    events: list[object] = []
    result = segment(case, models, SETTINGS, events.append)
    parts = [event.part for event in events if isinstance(event, StageStarted)]
    assert parts == ["2d"] * 4 + ["3d_fullres"] * 4
    cost, singles = estimate(case, models, SETTINGS), [estimate(case, model, SETTINGS) for model in models]
    assert cost.tiles == sum(single.tiles for single in singles)
    assert result.provenance["tiles"] == Segmentation(case, models, SETTINGS).estimate.tiles <= cost.tiles
    kept = [estimate(case, model, replace(SETTINGS, probabilities=True)) for model in models]
    assert cost.bytes == max(single.bytes for single in kept) + 3 * 4 * 14 * 15 * 17


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"labels": {"background": 0, "liver": 1, "spleen": 2}}, "labels"),
        ({"channels": ("MR",)}, "channels"),
    ],
)
def test_models_that_differ_are_refused(case: Case, tmp_path: Path, other: dict[str, object], what: str) -> None:
    one = load_model(RandomModel(patch=(8, 8, 8)).write(tmp_path / "one"))
    two = load_model(RandomModel(patch=(8, 8, 8), **other).write(tmp_path / "two"))
    with pytest.raises(ModelError, match=f"have different {what}; they can't be an ensemble"):
        segment(case, [one, two], SETTINGS)


def test_nothing_is_no_ensemble(case: Case) -> None:
    with pytest.raises(ModelError, match="no model given"):
        segment(case, [], SETTINGS)


def test_regions_that_unite_other_values_are_refused(case: Case, tmp_path: Path) -> None:
    models = [
        load_model(
            RandomModel(
                patch=(8, 8, 8), labels={"background": 0, "whole": [1, 2], "core": core}, regions_class_order=[1, 2]
            ).write(tmp_path / str(core))
        )
        for core in (1, 2)
    ]
    with pytest.raises(ModelError, match="have different labels"):
        segment(case, models, SETTINGS)


def test_what_does_not_fit_a_later_member_is_found_before_the_first_runs(case: Case, tmp_path: Path) -> None:
    low = RandomModel(patch=(8, 8, 8), called="3d_lowres")
    cascade = load_model(RandomModel(patch=(8, 8, 8), first_stage=low).write(tmp_path / "cascade"))
    alone = replace(cascade, first_stage=None)
    turning = load_model(RandomModel(patch=(8, 8, 8), reader="NibabelIOWithReorient").write(tmp_path / "turning"))
    first = load_model(RandomModel(patch=(8, 8, 8)).write(tmp_path / "first"))
    planar = Case(case.channels[:, :1], case.spacing_mm, planar=True)
    flat = load_model(RandomModel(patch=(8, 8), spacing=(1.0, 1.0)).write(tmp_path / "flat"))
    wrong = np.zeros((2, 2, 2), np.uint8)
    for image, models, given, message in (
        (case, [first, alone], None, "needs the labels of 3d_lowres"),
        (case, [first, cascade], wrong, "first stage's labels have shape"),
        (case, [first, turning], None, "does not say how it lies"),
        (planar, [flat, first], None, "is a 2D image"),
    ):
        events: list[object] = []
        with pytest.raises(CaseError, match=message):
            segment(image, models, SETTINGS, events.append, given)
        assert events == []


def test_one_network_is_in_memory_at_a_time(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[object]] = []
    most = 0
    made, given = Run.__init__, Run.probabilities

    def counting_init(run: Run, *arguments: object, **options: object) -> None:
        nonlocal most
        made(run, *arguments, **options)
        alive.append(weakref.ref(run))
        most = max(most, sum(reference() is not None for reference in alive))

    volumes: list[weakref.ref[object]] = []
    held: list[int] = []

    def counting_probabilities(run: Run) -> np.ndarray:
        held.append(sum(reference() is not None for reference in volumes))
        found = given(run)
        volumes.append(weakref.ref(found))
        return found

    monkeypatch.setattr(Run, "__init__", counting_init)
    monkeypatch.setattr(Run, "probabilities", counting_probabilities)
    low = RandomModel(patch=(8, 8, 8), called="3d_lowres")
    cascade = load_model(RandomModel(patch=(8, 8, 8), first_stage=low).write(tmp_path / "cascade"))
    segment(case, [*pair(tmp_path / "pair"), cascade, cascade.first_stage], SETTINGS)
    assert len(alive) == 5
    assert most == 1
    assert held == [0, 1, 1, 1]  # the sum so far, and nothing of the members before


def test_the_sum_so_far_counts_against_the_budget(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[int] = []

    def recorded(*arguments: object, **options: object) -> Run:
        budgets.append(arguments[2].memory)
        return Run(*arguments, **options)

    monkeypatch.setattr(segmentation_module, "Run", recorded)
    segment(case, pair(tmp_path), replace(SETTINGS, engine="torch", memory=10**10))
    assert budgets == [10**10, 10**10 - 4 * 3 * 14 * 15 * 17]


def test_the_mean_lets_go_of_every_head_that_it_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (ScratchArray((3, 2, 2, 2), on_disk=True) for _ in range(2))
    first.array[...], second.array[...] = 0.25, 0.75
    released: list[ScratchArray] = []
    monkeypatch.setattr(ScratchArray, "release", lambda array: released.append(array))
    mean = Mean(2)
    mean.add(first)
    assert mean.bytes == 0  # on disk
    mean.add(second)
    assert (mean.value().array == 0.5).all()
    assert (released.count(first), released.count(second)) == (2 * 3, 3)


def test_postprocessing_stops_when_asked(case: Case, tmp_path: Path) -> None:
    model = load_model(RandomModel(patch=(8, 8, 8), postprocessing=[1, 2]).write(tmp_path))
    exporting: list[bool] = []
    control = StopWhen(lambda: bool(exporting))
    segmentation = Segmentation(case, model, replace(SETTINGS, postprocess=True), control=control)
    for event in segmentation.steps():
        exporting += [True] * (event == StageStarted(Stage.EXPORT))
    assert segmentation.result is None
