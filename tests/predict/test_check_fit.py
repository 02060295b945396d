"""What an estimate refuses is refused without counting tiles, in the same words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_model import RandomModel

from napari_nnunet_cpu import Case, Settings, TrainedModel, estimate, load_model
from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.errors import NNUNetCPUError
from napari_nnunet_cpu.predict import check_fit
from napari_nnunet_cpu.predict.planning import plan

SHAPE = (9, 10, 11)
LOW = RandomModel(patch=(8, 8, 8), spacing=(2.0, 2.0, 2.0), called="3d_lowres")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    made = {
        "plain": RandomModel(patch=(8, 8, 8)),
        "two channels": RandomModel(patch=(8, 8, 8), channels=("CT", "PET")),
        "cascade": RandomModel(patch=(8, 8, 8), first_stage=LOW),
        "no way back": RandomModel(patch=(8, 8, 8), spacing=(2.0, 2.0, 2.0)),
    }
    loaded = {name: load_model(model.write(tmp_path_factory.mktemp("model"))) for name, model in made.items()}
    loaded["second stage"] = replace(loaded["cascade"], first_stage=None)
    stuck = loaded["no way back"].configuration.model_copy(update={"resampling_fn_probabilities": "no_resampling_hack"})
    loaded["no way back"] = replace(loaded["no way back"], configuration=stuck)
    return loaded


WRONG = {
    "channels": ("two channels", {}, None, "has 1 channel"),
    "box": ("plain", {"box": Box((0, 9), (0, 10), (0, 12))}, None, "exceeds the image"),
    "box of a second stage": ("cascade", {"box": Box((0, 10), (0, 10), (0, 11))}, None, "exceeds the image"),
    "no first stage": ("second stage", {}, None, "needs the labels of 3d_lowres"),
    "shape of the first stage": ("cascade", {}, np.zeros((3, 3, 3), np.uint8), "first stage's labels have shape"),
    "type of the first stage": ("second stage", {}, np.zeros(SHAPE, np.float32), "must be whole numbers"),
    "resampling": ("no way back", {}, None, "labels would not fit the image"),
    "disagreement": ("plain", {"uncertainty": "disagreement"}, None, "disagreement"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_in_the_same_words(models, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    name, options, first_stage, said = WRONG[what]
    case = Case(np.ones((1, *SHAPE), np.float32), (1.0, 1.0, 1.0))
    inputs = case, models[name], Settings.fast(**options), first_stage
    with pytest.raises(NNUNetCPUError) as expected:
        estimate(*inputs)
    assert said in str(expected.value)
    monkeypatch.delattr(plan, "chosen_tiles")  # which counts
    with pytest.raises(type(expected.value)) as found:
        check_fit(*inputs)
    assert str(found.value) == str(expected.value)


def test_what_fits_is_not_refused(models) -> None:
    case = Case(np.ones((1, *SHAPE), np.float32), (1.0, 1.0, 1.0))
    box = Box.whole(SHAPE)
    for name, first_stage in (("plain", None), ("cascade", None), ("second stage", np.zeros(SHAPE, np.uint8))):
        check_fit(case, models[name], Settings.fast(box=box), first_stage)
    check_fit(case, [models["plain"], models["cascade"]], Settings.fast())
