"""What makes two runs the same, so that one can be gone on with as the other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_model import RandomModel

from napari_nnunet_cpu import Case, Settings, TrainedModel, load_model
from napari_nnunet_cpu.cases.case import SpacingSource
from napari_nnunet_cpu.predict.resume import identity

IMAGE = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
CASE = Case(IMAGE, (1.0, 1.0, 1.0), affine=np.eye(4))
PLAIN = Settings.exact()


def identity_of(
    case: Case, model: TrainedModel, settings: Settings, first_stage: np.ndarray | None, channels: int = 3
) -> dict[str, Any]:
    return identity.identity_of(case, model, settings, first_stage, channels)


def changed_image(*place: int) -> np.ndarray:
    image = IMAGE.copy()
    image[place] = np.nextafter(image[place], np.float32(9))
    return image


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 3, 4, 5), (0, 2, 1, 3)])
def test_every_voxel_counts(model: TrainedModel, place: tuple[int, ...]) -> None:
    assert identity_of(replace(CASE, channels=changed_image(*place)), model, PLAIN, None) != identity_of(
        CASE, model, PLAIN, None
    )


@pytest.mark.parametrize(
    "other",
    [
        {"channels": IMAGE[::-1]},
        {"channels": IMAGE[:1]},
        {"channels": IMAGE.reshape(2, 5, 4, 6)},
        {"channels": IMAGE.astype(np.float64)},
        {"spacing_mm": (1.0, 1.0, 1.5)},
        {"spacing_source": SpacingSource.ASSUMED},
        {"affine": None},
        {"affine": np.diag([1.0, -1.0, 1.0, 1.0])},
    ],
    ids=str,
)
def test_a_case_of_other_values_is_another(model: TrainedModel, other: dict[str, Any]) -> None:
    assert identity_of(replace(CASE, **other), model, PLAIN, None) != identity_of(CASE, model, PLAIN, None)


def test_a_2d_image_is_no_volume_of_one_slice(model: TrainedModel) -> None:
    volume = replace(CASE, channels=IMAGE[:, :1])
    assert identity_of(replace(volume, planar=True), model, PLAIN, None) != identity_of(volume, model, PLAIN, None)


def test_how_an_image_lies_in_memory_or_is_called_does_not_count(model: TrainedModel) -> None:
    expected = identity_of(CASE, model, PLAIN, None)
    turned = np.ascontiguousarray(IMAGE.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    sparse = np.zeros((2, 8, 10, 12), np.float32)[:, ::2, ::2, ::2]
    sparse[...] = IMAGE
    backwards = np.ascontiguousarray(IMAGE[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]
    for image in (turned, sparse, backwards):
        assert not image.flags.c_contiguous
        assert identity_of(Case(image, CASE.spacing_mm, affine=np.eye(4), name="other"), model, PLAIN, None) == expected


@pytest.mark.parametrize(
    "other",
    [
        {"engine": "torch"},
        {"device": "cpu"},
        {"precision": "int8"},
        {"agreement": 0.9},
        {"step": 0.4},
        {"mirror": False},
    ],
    ids=str,
)
def test_settings_on_which_sums_depend_count(model: TrainedModel, other: dict[str, Any]) -> None:
    assert identity_of(CASE, model, replace(PLAIN, **other), None) != identity_of(CASE, model, PLAIN, None)


@pytest.mark.parametrize(
    "other",
    [
        {"cover": True},
        {"box": ((0, 1), (0, 1), (0, 1))},
        {"threads": 2},
        {"streams": 2},
        {"memory": 10**9},
        {"probabilities": True},
        {"postprocess": True},
        {"preset": "draft"},
    ],
    ids=str,
)
def test_settings_on_which_they_do_not_depend_do_not(model: TrainedModel, other: dict[str, Any]) -> None:
    assert identity_of(CASE, model, replace(PLAIN, **other), None) == identity_of(CASE, model, PLAIN, None)


def test_every_setting_is_one_or_the_other() -> None:
    free = {"cover", "box", "threads", "streams", "memory", "probabilities", "postprocess", "preset"}
    assert set(PLAIN.as_dict()) - free == set(identity._SETTINGS)


BASE: dict[str, Any] = {"patch": (8, 8, 8), "channels": ("CT", "CT"), "folds": ("0", "1")}


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"spacing": (1.0, 1.0, 2.0)},
        {"patch": (8, 8, 4)},
        {"normalization": "NoNormalization"},
        {"use_mask": True},
        {"transpose": (1, 2, 0)},
        {"mirror_axes": (0,)},
        {"labels": {"background": 0, "liver": 1, "spleen": 2}},
        {"resampling_options": {"probabilities": {"order": 3}}},
        {"reader": "NibabelIOWithReorient"},
    ],
    ids=str,
)
def test_another_model_is_another(tmp_path: Path, other: dict[str, Any]) -> None:
    one, two = (load_model(RandomModel(**BASE | own).write(tmp_path / name)) for name, own in (("a", {}), ("b", other)))
    assert identity_of(CASE, one, PLAIN, None) != identity_of(CASE, two, PLAIN, None)


def test_a_model_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    folder = RandomModel(**BASE).write(tmp_path / "here")
    one = load_model(folder)
    shutil.copytree(folder, moved := tmp_path / "there" / folder.parent.name / folder.name)
    assert identity_of(CASE, load_model(moved), PLAIN, None) == identity_of(CASE, one, PLAIN, None)
    assert identity_of(CASE, load_model(folder, folds=("1",)), PLAIN, None) != identity_of(CASE, one, PLAIN, None)
    shutil.copy(moved / "fold_0" / "checkpoint_final.pth", moved / "fold_1" / "checkpoint_final.pth")
    assert identity_of(CASE, load_model(moved), PLAIN, None) != identity_of(CASE, one, PLAIN, None)


def test_labels_of_a_first_stage_count(model: TrainedModel) -> None:
    labels = np.zeros(CASE.shape, np.uint8)
    other = labels.copy()
    other[3, 4, 5] = 1
    found = [identity_of(CASE, model, PLAIN, stage) for stage in (None, labels, other)]
    assert all(found[a] != found[b] for a, b in ((0, 1), (0, 2), (1, 2)))


def test_versions_and_what_int8_runs_on_count(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.fast()
    with monkeypatch.context() as patch:
        patch.setattr(identity, "int8_is_fast", lambda: False)
        slow = identity_of(CASE, model, settings, None)
        exact = identity_of(CASE, model, PLAIN, None)
    monkeypatch.setattr(identity, "int8_is_fast", lambda: True)
    assert identity_of(CASE, model, settings, None) != slow
    assert identity_of(CASE, model, PLAIN, None) == exact
    monkeypatch.setattr(identity, "installed_version", lambda name: f"{name} 99")
    assert identity_of(CASE, model, PLAIN, None) != exact


def test_what_is_summed_counts(model: TrainedModel) -> None:
    assert identity_of(CASE, model, PLAIN, None, 3) != identity_of(CASE, model, PLAIN, None, 2)
