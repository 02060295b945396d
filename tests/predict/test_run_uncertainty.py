"""Uncertainty of a run: made beside the labels, which stay as they are, and final with them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_engines import FakeEngine, position_dependent
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from random_model import RandomModel, smooth_image
from scipy.special import entr, expit, softmax
from small_models import MODELS, load_models
from test_bounded import PLAIN, run_as

from napari_nnunet_cpu import Case, Run, Settings, TrainedModel, estimate, load_model, segment
from napari_nnunet_cpu.boxes import Box, inside
from napari_nnunet_cpu.errors import OutputError, SettingsError
from napari_nnunet_cpu.predict import Segmentation
from napari_nnunet_cpu.predict.passes.disagreement import Disagreement
from napari_nnunet_cpu.settings import UNCERTAINTY_KINDS

KINDS = ("dense", "rows", "disk")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    return load_models(MODELS, tmp_path_factory)


@pytest.fixture(scope="module")
def case() -> Case:
    """Noise with zeros beside it that are cropped away."""
    image = np.random.default_rng(7).normal(size=(1, 19, 12, 13)).astype(np.float32)
    image[:, :, :2] = 0
    return Case(image, (1.3, 0.8, 1.0))


def two_folds() -> FakeEngine:
    return FakeEngine(lambda patch, fold: position_dependent(patch * (-1) ** fold), folds=2)


def finished(run: Run) -> Run:
    list(run.compute())
    return run


@pytest.mark.parametrize("uncertainty", UNCERTAINTY_KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_every_plan_measures_the_same(name: str, uncertainty: str, models: dict[str, TrainedModel], case: Case) -> None:
    """Bit for bit, final with the labels; and these are those of a run without uncertainty."""
    plain = finished(run_as("dense", case, models[name], engine=two_folds()))
    settings = replace(PLAIN, uncertainty=uncertainty)
    expected = finished(run_as("dense", case, models[name], settings, engine=two_folds())).uncertainty()
    assert expected.dtype == np.float32
    assert expected.shape == case.shape
    for kind in KINDS:
        run = run_as(kind, case, models[name], settings, engine=two_folds())
        for event in run.compute():
            for box in event.final:
                assert np.array_equal(run.final_uncertainty[box.slices], expected[box.slices])
        assert np.array_equal(run.uncertainty(), expected)
        assert np.array_equal(run.final_uncertainty, expected)
        assert np.array_equal(run.labels(), plain.labels())
    kept = np.zeros(case.shape, bool)
    run.geometry.crop(kept)[...] = True
    assert not kept.all()
    assert (expected[~kept] == 0).all()
    assert np.ptp(expected[kept]) > 0


@pytest.mark.parametrize("uncertainty", ["margin", "entropy"])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_that_of_the_probabilities(
    name: str, uncertainty: str, models: dict[str, TrainedModel], case: Case
) -> None:
    run = finished(run_as("dense", case, models[name], replace(PLAIN, uncertainty=uncertainty, probabilities=True)))
    p = run.probabilities().array.astype(float)
    if name == "regions":
        margin, entropy = (1 - np.abs(2 * p - 1)).max(axis=0), (entr(p) + entr(1 - p)).mean(axis=0) / np.log(2)
    else:
        first, second = np.sort(p, axis=0)[:-3:-1]
        margin, entropy = 1 - (first - second), entr(p).sum(axis=0) / np.log(len(p))
    np.testing.assert_allclose(run.uncertainty(), margin if uncertainty == "margin" else entropy, atol=3e-6)


def mutual_information(logits: np.ndarray, regions: bool) -> np.ndarray:
    """Of logits (passes, heads, ...), in float64, by its other definition: the mean divergence from the mean."""
    if regions:
        p = np.stack([expit(logits.astype(float)), expit(-logits.astype(float))], axis=2)
        most = np.log(2)
    else:
        p = softmax(logits.astype(float), axis=1)[:, None]
        most = np.log(min(logits.shape[:2]))
    divergence = (p * np.log(np.maximum(p, 1e-300) / np.maximum(p.mean(axis=0), 1e-300))).sum(axis=2)
    return divergence.mean(axis=(0, 1)) / most


@pytest.mark.parametrize("name", ["3d", "regions"])
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([0.3, 3.0, 50.0]))
def test_disagreement_is_mutual_information(
    name: str, models: dict[str, TrainedModel], seed: int, passes: int, spread: float
) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, (passes, 3, 4, 5)).astype(np.float32)
    disagreement = Disagreement(models[name].labels)
    for one in logits:
        disagreement.show(one)
    found = disagreement.value()
    if passes == 1:
        assert (found < 1e-6).all()
    else:
        np.testing.assert_allclose(found, mutual_information(logits, name == "regions"), atol=2e-6)
    again = Disagreement(models[name].labels)
    for one in (logits[0],) * 3:
        again.show(one)
    np.testing.assert_allclose(again.value(), 0, atol=1e-6)


def test_passes_that_are_sure_of_different_labels(models: dict[str, TrainedModel]) -> None:
    for count in (2, 3):
        disagreement = Disagreement(models["3d"].labels)
        for sure in range(count):
            disagreement.show(np.where(np.arange(3) == sure, 200, 0).astype(np.float32)[:, None])
        np.testing.assert_allclose(disagreement.value(), 1, atol=1e-6)
    with pytest.raises(SettingsError, match="show a pass first"):
        Disagreement(models["3d"].labels).value()


@pytest.mark.parametrize("name", ["3d", "2d"])
def test_disagreement_of_folds_and_mirrored_passes(name: str, tmp_path: Path) -> None:
    """Weighted as the logits are, tile by tile, from passes that we make ourselves."""
    flat = name == "2d"
    model = load_model(
        RandomModel(
            **(MODELS[name] | {"normalization": "NoNormalization", "mirror_axes": (0, 1) if flat else (0, 2)})
        ).write(tmp_path)
    )
    image = np.random.default_rng(3).normal(size=(1, 10, 11, 12)).astype(np.float32)
    case = Case(image, (1.0, 1.0, 1.0))
    run = finished(Run(case, model, Settings(uncertainty="disagreement"), two_folds()))
    top, weights = np.zeros((2, *case.shape))
    for tile in run.grid.tiles():
        patch = image[:, *tile.box.slices]
        patch = patch[:, 0] if flat else patch
        passes = [
            np.flip(position_dependent(np.flip(patch, axes) * (-1) ** fold), axes)
            for fold in range(2)
            for axes in subsets([axis + 1 for axis in model.mirror_axes])
        ]
        assert len(passes) == 8
        window = run._output.sums._window
        top[tile.box.slices] += window * mutual_information(np.stack(passes), regions=False).reshape(tile.size)
        weights[tile.box.slices] += window
    np.testing.assert_allclose(run.uncertainty(), top / weights, atol=3e-6)


def subsets(axes: Sequence[int]) -> list[tuple[int, ...]]:
    return [part for count in range(len(axes) + 1) for part in itertools.combinations(axes, count)]


@pytest.mark.parametrize("uncertainty", UNCERTAINTY_KINDS)
@given(st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=5)
def test_tiles_in_any_order(uncertainty: str, models: dict[str, TrainedModel], case: Case, random: object) -> None:
    settings = replace(PLAIN, uncertainty=uncertainty)
    expected = finished(run_as("rows", case, models["3d"], settings, engine=two_folds())).uncertainty()
    run = run_as("dense", case, models["3d"], settings, engine=two_folds())
    order = list(run.tiles)
    random.shuffle(order)
    list(run.compute(order))
    np.testing.assert_allclose(run.uncertainty(), expected, atol=1e-5)  # sums are rounded in another order


@pytest.mark.parametrize("uncertainty", UNCERTAINTY_KINDS)
def test_of_some_tiles_and_of_a_box(uncertainty: str, models: dict[str, TrainedModel], case: Case) -> None:
    settings = replace(PLAIN, uncertainty=uncertainty)
    whole = finished(run_as("dense", case, models["3d"], settings, engine=two_folds())).uncertainty()
    box = Box((3, 9), (4, 10), (0, 7))
    run = run_as("dense", case, models["3d"], replace(settings, box=box), engine=two_folds())
    list(run.compute())
    assert np.array_equal(run.uncertainty(), inside(whole, box))
    run.choose()
    next(run.compute())
    assert np.array_equal(run.uncertainty()[box.slices], whole[box.slices])
    run = run_as("dense", case, models["3d"], settings, engine=two_folds())
    next(run.compute())
    last = run.geometry.crop(run.uncertainty())[-1, -1]  # where no tile lies yet
    np.testing.assert_allclose(last, 0 if uncertainty == "disagreement" else 1, atol=1e-6)
    assert np.array_equal(finished(run).uncertainty(), whole)


def test_one_pass_can_not_disagree(models: dict[str, TrainedModel], case: Case, tmp_path: Path) -> None:
    asked = Settings.exact(uncertainty="disagreement")
    for refused in (
        lambda: Run(case, models["3d"], asked, FakeEngine(position_dependent)),
        lambda: Segmentation(case, models["3d"], asked),
        lambda: estimate(case, models["3d"], asked),
    ):
        with pytest.raises(SettingsError, match="one pass per tile: choose margin or entropy, mirror, or "):
            refused()
    mirrored = load_model(RandomModel(patch=(8, 8, 8), mirror_axes=(0,)).write(tmp_path))
    assert estimate(case, mirrored, asked).passes > 0
    with pytest.raises(SettingsError, match="one pass per tile"):
        estimate(case, mirrored, replace(asked, mirror=False))
    with pytest.raises(SettingsError, match="an ensemble averages"):
        Segmentation(case, [mirrored, mirrored], asked)


def test_what_was_not_asked_for_is_not_there(models: dict[str, TrainedModel], case: Case, tmp_path: Path) -> None:
    run = finished(run_as("dense", case, models["3d"]))
    assert run.result().uncertainty is None
    with pytest.raises(SettingsError, match="this run has no uncertainty"):
        run.uncertainty()
    with pytest.raises(SettingsError, match="this run has no uncertainty"):
        _ = run.final_uncertainty
    with pytest.raises(OutputError, match="there is no uncertainty to write"):
        run.result().save_uncertainty(tmp_path / "d.nii.gz")
    result = finished(run_as("dense", case, models["3d"], replace(PLAIN, uncertainty="margin"))).result()
    with pytest.raises(OutputError, match="this format holds no fractions; use one of "):
        result.save_uncertainty(tmp_path / "d.png")


@pytest.mark.parametrize("ending", [".nii.gz", ".tif", ".nrrd"])
def test_it_is_read_back(ending: str, models: dict[str, TrainedModel], case: Case, tmp_path: Path) -> None:
    from napari_nnunet_cpu import read_case

    result = finished(run_as("dense", case, models["3d"], replace(PLAIN, uncertainty="margin"))).result()
    path = result.save_uncertainty(tmp_path / f"d{ending}")
    found = read_case(path)
    assert np.array_equal(found.channels[0], result.uncertainty)
    np.testing.assert_allclose(found.spacing_mm, case.spacing_mm, rtol=1e-6)


@pytest.mark.parametrize("uncertainty", ["margin", "entropy"])
def test_of_an_ensemble_it_is_that_of_the_mean(uncertainty: str, tmp_path: Path) -> None:
    case = Case(smooth_image((14, 15, 17), seed=2), (1.0, 1.1, 0.9))
    pair = [
        load_model(RandomModel(patch=patch, spacing=(1.0,) * len(patch), seed=seed).write(tmp_path))
        for seed, patch in enumerate(((8, 8), (8, 8, 8)))
    ]
    box = Box((2, 12), (0, 9), (3, 17))
    settings = Settings.fast(threads=1, uncertainty=uncertainty, probabilities=True, box=box)
    result = segment(case, pair, settings)
    p = result.probabilities.astype(float)
    first, second = np.sort(p, axis=0)[:-3:-1]
    expected = 1 - (first - second) if uncertainty == "margin" else entr(p).sum(axis=0) / np.log(3)
    np.testing.assert_allclose(result.uncertainty, inside(expected, box), atol=3e-6)
    assert np.array_equal(result.labels, segment(case, pair, replace(settings, uncertainty=None)).labels)


def test_of_a_cascade_it_is_that_of_the_last_stage(tmp_path: Path) -> None:
    low = RandomModel(patch=(8, 8, 8), spacing=(2.0, 2.0, 2.0), called="3d_lowres", seed=5)
    cascade = load_model(RandomModel(patch=(8, 8, 8), first_stage=low).write(tmp_path))
    case = Case(smooth_image((14, 15, 17), seed=2), (1.0, 1.0, 1.0))
    settings = Settings.fast(threads=1, uncertainty="entropy")
    result = segment(case, cascade, settings)
    run = finished(Run(case, cascade, settings, first_stage=result.first_stage.labels))
    assert np.array_equal(result.uncertainty, run.uncertainty())
    assert result.first_stage.uncertainty is None
    assert result.uncertainty.max() > 0.1


@pytest.mark.parametrize("uncertainty", UNCERTAINTY_KINDS)
def test_a_run_is_taken_up(uncertainty: str, models: dict[str, TrainedModel], case: Case, tmp_path: Path) -> None:
    settings = replace(PLAIN, uncertainty=uncertainty)
    expected = finished(Run(case, models["3d"], settings, two_folds())).uncertainty()
    run = Run(case, models["3d"], settings, two_folds(), folder=tmp_path)
    events = run.compute()
    for _ in range(len(run.tiles) // 2):
        next(events)
    events.close()
    run.saving.file.close()
    again = Run(case, models["3d"], settings, engine := two_folds(), folder=tmp_path)
    assert again.tiles_done == len(run.tiles) // 2
    assert np.array_equal(finished(again).uncertainty(), expected)
    assert np.array_equal(again.final_uncertainty, expected)
    assert len(engine.calls) == 2 * (len(run.tiles) - len(run.tiles) // 2)
    again.saving.file.close()
    plain = Run(case, models["3d"], PLAIN, two_folds(), folder=tmp_path)  # has other sums
    assert plain.tiles_done == 0
    plain.saving.file.close()


def test_what_is_final_of_a_stopped_run(models: dict[str, TrainedModel], case: Case) -> None:
    whole = segment(case, models["3d"], replace(PLAIN, uncertainty="margin", threads=1))
    segmentation = Segmentation(case, models["3d"], replace(PLAIN, uncertainty="margin", threads=1))
    final = np.zeros(case.shape, bool)
    for event in segmentation.steps():
        for box in getattr(event, "final", ()):
            final[box.slices] = True
        if final.any():
            break
    part = segmentation.partial()
    assert not final.all()
    assert np.array_equal(part.uncertainty, np.where(final, whole.uncertainty, 0))


def test_memory_is_counted(models: dict[str, TrainedModel]) -> None:
    case = Case(np.ones((1, 60, 50, 40), np.float32), (1.0, 1.0, 1.0))
    plain, margin, disagreement = (
        Run(
            case, models["3d"], replace(PLAIN, uncertainty=uncertainty, threads=1, memory=10**12), two_folds()
        ).estimate.bytes
        for uncertainty in (None, "margin", "disagreement")
    )
    assert margin - plain >= 2 * 4 * 60 * 50 * 40
    assert disagreement - margin >= 4 * 60 * 50 * 40
