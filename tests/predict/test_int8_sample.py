"""int8 on the model and the head that come with the package: a trained network, a real image."""

from collections.abc import Iterator

import numpy as np
import pytest

from napari_nnunet_cpu import Case, Result, Settings, TrainedModel, load_model, read_case, segment
from napari_nnunet_cpu.engines.agreement import measure_agreement
from napari_nnunet_cpu.engines.int8 import int8
from napari_nnunet_cpu.samples import sample_image, sample_model

pytestmark = pytest.mark.slow

OPTIONS = {"engine": "openvino", "device": "cpu", "threads": 2}


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return load_model(sample_model())


@pytest.fixture(scope="module")
def case() -> Case:
    """One patch from the middle of the head."""
    whole = read_case(sample_image())
    middle = [slice((n - 64) // 2, (n + 64) // 2) for n in whole.shape]
    return Case(np.ascontiguousarray(whole.channels[:, *middle]), whole.spacing_mm)


@pytest.fixture(scope="module")
def results(model: TrainedModel, case: Case) -> Iterator[dict[str, Result]]:
    """In float32, in int8 and once more, where a CPU is said to have VNNI."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "int8_is_fast", lambda: True)
        yield {
            "f32": segment(case, model, Settings.fast(precision="f32", **OPTIONS)),
            "int8": segment(case, model, Settings.fast(**OPTIONS)),
            "again": segment(case, model, Settings.fast(**OPTIONS)),
        }


def test_the_labels_agree_as_promised(results: dict[str, Result], model: TrainedModel) -> None:
    settings = Settings.fast()
    pair = (results["f32"].labels, results["int8"].labels)
    agreement = measure_agreement([pair], model.labels)
    assert settings.agreement <= agreement.dice < 1
    np.testing.assert_array_equal(results["again"].labels, results["int8"].labels)


def test_the_record_says_what_was_found(results: dict[str, Result]) -> None:
    records = {name: result.provenance["runs"][0] for name, result in results.items()}
    assert records["f32"]["precision"] == "f32"
    assert records["f32"]["agreement"] is None
    for name in ("int8", "again"):
        assert records[name]["precision"] == "int8"
        found = records[name]["agreement"]
        assert Settings.fast().agreement <= found["dice"] < 1
        assert found["worst"] in ("background", "grey matter", "white matter")
        assert records[name]["engine_reason"].startswith("asked for; int8, which agrees with f32: Dice 0.9")
    assert results["int8"].provenance["versions"]["nncf"] is not None


def test_more_than_can_be_reached_is_not_promised(
    case: Case, model: TrainedModel, results: dict[str, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "int8_is_fast", lambda: True)
    result = segment(case, model, Settings.fast(agreement=1, **OPTIONS))
    record = result.provenance["runs"][0]
    assert (record["precision"], record["agreement"]) == ("f32", None)
    assert "f32, not int8: it agrees too little with f32, Dice 1 is asked for: Dice 0.9" in record["engine_reason"]
    np.testing.assert_array_equal(result.labels, results["f32"].labels)
