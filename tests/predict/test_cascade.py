"""A cascade: the first stage is found beside it, run first, and seen by the second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_model import RandomModel, smooth_image
from steered import StopWhen

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, estimate, load_model, segment
from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.errors import CaseError, MemoryBudgetError
from napari_nnunet_cpu.events import Event, Stage, StageStarted, TileDone
from napari_nnunet_cpu.predict import Segmentation, run_to_end
from napari_nnunet_cpu.predict import segmentation as segmentation_module
from napari_nnunet_cpu.prepare import prepare

SPACING = (2.0, 2.0, 2.0)
LOW = RandomModel(patch=(8, 8, 8), spacing=SPACING, called="3d_lowres", seed=5)
CASCADE = RandomModel(patch=(8, 8, 8), first_stage=LOW)
SETTINGS = Settings.fast(engine="torch", device="cpu", threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CASCADE.write(tmp_path_factory.mktemp("cascade"))


@pytest.fixture(scope="module")
def cascade(folder: Path) -> TrainedModel:
    return load_model(folder)


@pytest.fixture
def case() -> Case:
    return Case(smooth_image((14, 15, 17), seed=2), (1.0, 1.0, 1.0))


def test_both_stages_run_in_one_go(case: Case, cascade: TrainedModel, folder: Path) -> None:
    result = segment(case, cascade, SETTINGS)
    first = segment(case, load_model(folder.parent, "3d_lowres"), SETTINGS)
    run = Run(case, cascade, SETTINGS, first_stage=first.labels)
    list(run.compute())
    assert np.array_equal(result.labels, run.labels())
    assert result.first_stage is not None
    assert np.array_equal(result.first_stage.labels, first.labels)
    assert [made["model"]["configuration"] for made in result.provenance["runs"]] == ["3d_lowres", "3d_cascade_fullres"]
    assert [made["tiles"] for made in result.provenance["runs"]] == [first.provenance["tiles"], len(run.tiles)]
    assert result.provenance["tiles_done"] == first.provenance["tiles"] + len(run.tiles)
    assert len(np.unique(result.labels)) == len(np.unique(first.labels)) == 3


def test_labels_of_the_first_stage_can_be_given(case: Case, cascade: TrainedModel) -> None:
    whole = segment(case, cascade, SETTINGS)
    assert whole.first_stage is not None
    again = segment(case, cascade, SETTINGS, first_stage=whole.first_stage.labels)
    assert np.array_equal(again.labels, whole.labels)
    assert again.first_stage is None
    assert len(again.provenance["runs"]) == 1
    other = segment(case, cascade, SETTINGS, first_stage=np.zeros(case.shape, np.uint8))
    assert not np.array_equal(other.labels, whole.labels)


def test_events_say_which_stage_they_are_of(case: Case, cascade: TrainedModel) -> None:
    events: list[object] = []
    segment(case, cascade, SETTINGS, events.append)
    started = [event for event in events if isinstance(event, StageStarted)]
    order = (Stage.PREPARE, Stage.LOAD, Stage.PREDICT, Stage.EXPORT)
    assert started == [StageStarted(s, part) for part in ("3d_lowres", "3d_cascade_fullres") for s in order]
    assert started[0].text == "3d_lowres: preparing the image"
    tiles = [event for event in events if isinstance(event, TileDone)]
    assert {tile.part for tile in tiles} == {"3d_lowres", "3d_cascade_fullres"}
    assert tiles[0].text.startswith("3d_lowres: 1 of ")


@pytest.mark.parametrize("stop_after", [1, 5])
def test_a_cascade_stops_in_either_stage(case: Case, cascade: TrainedModel, stop_after: int) -> None:
    seen: list[TileDone] = []
    segmentation = Segmentation(case, cascade, SETTINGS, control=StopWhen(lambda: len(seen) >= stop_after))
    for event in segmentation.steps():
        seen += [event] * isinstance(event, TileDone)
    assert segmentation.result is None
    assert len(seen) == stop_after
    assert {tile.part for tile in seen} == ({"3d_lowres"} if stop_after == 1 else {"3d_lowres", "3d_cascade_fullres"})


def test_a_second_stage_that_was_refused_goes_on_after_the_first(
    case: Case, cascade: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = segment(case, cascade, SETTINGS)
    segmentation = Segmentation(case, cascade, SETTINGS)
    seen: list[Event] = []

    def refused(*arguments: object, **options: object) -> Run:
        if arguments[1] is cascade:
            raise MemoryBudgetError("no memory is left for it")
        return Run(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(segmentation_module, "Run", refused)
        with pytest.raises(MemoryBudgetError, match="no memory is left for it"):
            run_to_end(segmentation)
    result = run_to_end(segmentation, seen.append)
    assert {event.part for event in seen} == {"3d_cascade_fullres"}
    assert np.array_equal(result.labels, expected.labels)
    assert result.first_stage is not None
    assert expected.first_stage is not None
    assert np.array_equal(result.first_stage.labels, expected.first_stage.labels)
    assert [made["tiles"] for made in result.provenance["runs"]] == [
        made["tiles"] for made in expected.provenance["runs"]
    ]


def test_cost_counts_both_stages(case: Case, cascade: TrainedModel) -> None:
    assert cascade.first_stage is not None
    first = estimate(case, cascade.first_stage, SETTINGS)
    second = estimate(case, cascade, SETTINGS, first_stage=np.zeros(case.shape, np.uint8))
    both = estimate(case, cascade, SETTINGS)
    assert (both.tiles, both.passes) == (first.tiles + second.tiles, first.passes + second.passes)
    assert both.bytes == max(first.bytes, second.bytes) == second.bytes
    whole = Case(np.ones((1, *case.shape), np.float32), case.spacing_mm)  # nothing to crop
    assert both.tiles == segment(whole, cascade, SETTINGS).provenance["tiles"]


def test_in_a_box_the_first_stage_runs_all_its_tiles_and_costs_them(case: Case, cascade: TrainedModel) -> None:
    """The second stage needs its labels everywhere."""
    whole = Case(case.channels[:, :8] + 1000, SPACING)  # nothing to crop, and several tiles of the first stage
    torch = replace(SETTINGS, engine="torch")  # quicker here, for few passes
    boxed = replace(torch, box=Box((0, 4), (0, 4), (0, 4)))
    assert cascade.first_stage is not None
    first = estimate(whole, cascade.first_stage, torch)
    second = estimate(whole, cascade, boxed, first_stage=np.zeros(whole.shape, np.uint8))
    both = estimate(whole, cascade, boxed)
    assert first.tiles == 12 > estimate(whole, cascade.first_stage, boxed).tiles
    assert (both.tiles, both.passes) == (first.tiles + second.tiles, first.passes + second.passes)
    assert both.seconds == pytest.approx((first.seconds or 0) + (second.seconds or 0))
    runs = segment(whole, cascade, boxed).provenance["runs"]
    assert [made["tiles_done"] for made in runs] == [first.tiles, second.tiles]


def test_the_network_sees_one_channel_per_label(case: Case, cascade: TrainedModel) -> None:
    labels = np.random.default_rng(0).integers(0, 3, case.shape).astype(np.uint8)
    prepared = prepare(case, cascade, labels)
    kept = prepared.geometry.crop(labels)
    assert prepared.image.shape == (3, *kept.shape)
    for channel, value in zip(prepared.image[1:], (1, 2), strict=True):
        assert np.array_equal(channel, kept == value)
    assert np.array_equal(prepared.image[:1], prepare(case, replace_first(cascade)).image)


def replace_first(model: TrainedModel) -> TrainedModel:
    """The same model as if it were no cascade."""
    return replace(model, configuration=model.configuration.model_copy(update={"previous_stage": None}))


def test_labels_outside_the_image_count_for_the_mask(tmp_path: Path) -> None:
    """Statistics inside the mask take in what the first stage labelled outside the image, as nnU-Net's do."""
    model = load_model(RandomModel(patch=(8, 8, 8), use_mask=True, first_stage=LOW).write(tmp_path))
    image = np.zeros((1, 10, 10, 10), np.float32)
    image[0, 2:8, 2:8, 2:8] = np.random.default_rng(0).normal(5, 1, (6, 6, 6))
    image[0, 0, 0, 0] = image[0, -1, -1, -1] = 5  # nothing is cropped
    labels = np.zeros(image.shape[1:], np.uint8)
    labels[0:2, 4, 4] = 1
    inside = (image[0] != 0) | (labels > 0)
    prepared = prepare(Case(image, (1.0, 1.0, 1.0)), model, labels).image[0]
    values = image[0][inside]
    np.testing.assert_allclose(prepared[inside], (values - values.mean()) / values.std(), rtol=1e-5, atol=1e-6)
    assert (prepared[~inside] == 0).all()


def test_what_does_not_fit_is_refused(case: Case, cascade: TrainedModel) -> None:
    alone = replace(cascade, first_stage=None)
    with pytest.raises(CaseError, match="second stage of a cascade and needs the labels of 3d_lowres"):
        segment(case, alone, SETTINGS)
    with pytest.raises(CaseError, match=r"shape \(Z, Y, X\) \(3, 3, 3\), image has \(14, 15, 17\)"):
        segment(case, alone, SETTINGS, first_stage=np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(CaseError, match="must be whole numbers, found float32"):
        segment(case, alone, SETTINGS, first_stage=np.zeros(case.shape, np.float32))
