"""int8 where it is worth it: made, checked on the image, kept, and given up with a reason."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_model import RandomModel, smooth_image

from napari_nnunet_cpu import Settings, TrainedModel, load_model
from napari_nnunet_cpu.engines import Engine, choose_engine, plan_engine
from napari_nnunet_cpu.engines.agreement import Agreement, measure_agreement
from napari_nnunet_cpu.engines.int8 import int8
from napari_nnunet_cpu.engines.int8.calibration import Sample, find_samples, label, quantized
from napari_nnunet_cpu.engines.int8.int8 import Crops
from napari_nnunet_cpu.engines.openvino.library import load_openvino
from napari_nnunet_cpu.engines.openvino.openvino_engine import OpenVINOEngine

pytestmark = pytest.mark.slow

REASON = "asked for; "
SETTINGS = Settings.fast(engine="openvino", threads=1, agreement=0.8)  # random networks amplify what is rounded


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Two folds, patch 16, three heads, two stages: converted and calibrated in little time."""
    architecture = {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "kernel_sizes": [[3, 3, 3]] * 2,
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
    }
    folder = RandomModel(folds=("0", "1"), architecture=architecture)
    return load_model(folder.write(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def converted(model: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with its networks in float32."""
    path = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_NNUNET_CPU_CACHE", str(path))
        OpenVINOEngine(model, 1)
    return path


@pytest.fixture
def cache(cache: Path, converted: Path) -> Path:
    """A cache of this test alone, with the networks in float32."""
    shutil.copytree(converted, cache)
    return cache


@pytest.fixture(scope="module")
def calibrated(model: TrainedModel, converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with its networks in float32 and in int8."""
    path = tmp_path_factory.mktemp("calibrated")
    shutil.copytree(converted, path, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_NNUNET_CPU_CACHE", str(path))
        patch.setattr(int8, "int8_is_fast", lambda: True)
        assert choose_engine(model, SETTINGS, image()).precision == "int8"
    return path


@pytest.fixture
def full_cache(cache: Path, calibrated: Path) -> Path:
    """A cache of this test alone, with the networks in float32 and in int8."""
    shutil.copytree(calibrated, cache, dirs_exist_ok=True)
    return cache


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU with VNNI; others compute the same, only slowly."""
    monkeypatch.setattr(int8, "int8_is_fast", lambda: True)


@pytest.fixture
def calibrations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples every network was calibrated with."""
    counts: list[int] = []

    def counting(network: Any, samples: list[Any]) -> Any:
        counts.append(len(samples))
        return quantized(network, samples)

    monkeypatch.setattr(int8, "quantized", counting)
    return counts


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples were looked for, each time that an image was looked at."""
    counts: list[int] = []

    def counting(*arguments: Any) -> Any:
        counts.append(arguments[-1])
        return find_samples(*arguments)

    monkeypatch.setattr(int8, "find_samples", counting)
    return counts


def image(seed: int = 0, channels: int = 1) -> Crops:
    """An image of 24 parts."""

    def crops(size: tuple[int, ...], most: int) -> Iterator[np.ndarray]:
        for number in range(most):
            yield np.float32(smooth_image(size, 100 * seed + number, channels) / 300)

    return crops


def nowhere(_size: tuple[int, ...], _most: int) -> Iterator[np.ndarray]:
    return iter(())


def entries(cache: Path) -> int:
    return len(list((cache / "openvino").iterdir()))


@pytest.mark.usefixtures("vnni", "cache")
def test_it_is_taken_where_it_agrees(model: TrainedModel, capfd: pytest.CaptureFixture[str]) -> None:
    assert plan_engine(model, SETTINGS).precision == "int8"
    engine = choose_engine(model, SETTINGS, image())
    assert capfd.readouterr() == ("", "")
    assert (engine.name, engine.precision, engine.folds, engine.threads) == ("openvino", "int8", 2, 1)
    assert engine.agreement is not None
    assert engine.reason == f"{REASON}int8, which agrees with f32: {engine.agreement}"
    assert engine.agreement.worst in model.labels.names.values()
    assert 0.8 <= engine.agreement.dice < 1
    f32 = OpenVINOEngine(model, 1)
    (patch,) = image(7)((16, 16, 16), 1)
    for fold in range(2):
        error = engine.forward(patch, fold) - f32.forward(patch, fold)
        assert 0 < error.std() < 0.5 * f32.forward(patch, fold).std()


@pytest.mark.usefixtures("vnni", "cache")
def test_the_agreement_is_that_of_the_labels_it_will_give(model: TrainedModel) -> None:
    """Half the parts are for calibration; of the others, the labels of both engines are compared here once more."""
    seen: list[np.ndarray] = []

    def crops(size: tuple[int, ...], most: int) -> Iterator[np.ndarray]:
        for crop in image()(size, most):
            seen.append(crop)
            yield crop

    engine = choose_engine(model, SETTINGS, crops)
    # All parts tell the image from others, and then so many of them are used.
    assert [crop.shape for crop in seen] == [(1, 8, 8, 8)] * (24 + 8)
    found = find_samples(OpenVINOEngine(model, 1, patch=(8, 8, 8)), seen[24:], model.labels, 8)
    networks = [int8.read_network(int8.network_key(model, fold, "int8")) for fold in range(2)]
    made = OpenVINOEngine(model, 1, networks=networks, patch=(8, 8, 8))
    pairs = [(sample.winners, label(made, sample.crop, model.labels)) for sample in found[::2]]
    assert engine.agreement == measure_agreement(pairs, model.labels)
    assert 0 < engine.agreement.voxels < 1
    again = choose_engine(model, SETTINGS, lambda *_: iter(seen[:2]))
    assert again.agreement != engine.agreement  # of two parts, not of four
    assert again.precision == "int8"


@pytest.mark.usefixtures("vnni", "cache")
@pytest.mark.parametrize("parts", [8, 5, 2])
def test_no_part_both_calibrates_and_checks(parts: int, model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrating: list[list[Sample]] = []
    checking: list[list[Sample]] = []

    def unchanged(network: Any, samples: list[Sample]) -> Any:
        calibrating.append(samples)
        return network.clone()

    def agreed(*arguments: Any) -> Agreement:
        checking.append(arguments[-1])
        return Agreement("liver", 1.0, 1.0)

    monkeypatch.setattr(int8, "quantized", unchanged)
    monkeypatch.setattr(int8, "_agreement", agreed)
    assert choose_engine(model, SETTINGS, lambda size, most: image()(size, parts)).precision == "int8"
    calibrated, checked = ([sample.crop.tobytes() for sample in samples] for samples in (calibrating[0], checking[0]))
    assert (len(calibrating), len(checking)) == (2, 1)  # both folds with the same parts
    assert calibrating[1] == calibrating[0]
    assert not set(calibrated) & set(checked)
    assert set(calibrated) | set(checked) == {crop.tobytes() for crop in image()((8, 8, 8), parts)}
    assert (len(calibrated), len(checked)) == (parts // 2, parts - parts // 2)


@pytest.mark.usefixtures("vnni", "cache")
@pytest.mark.parametrize(("agreement", "precision"), [(0.0, "int8"), (1.0, "f32")])
def test_passes_at_a_time(model: TrainedModel, agreement: float, precision: str) -> None:
    """Calibrated, and then kept ready in the cache."""
    settings = replace(SETTINGS, threads=2, agreement=agreement)
    one = choose_engine(model, settings, image())
    (patch,) = image(7)((16, 16, 16), 1)
    expected = one.forward(patch, 0)
    for _ in range(2):
        engine = choose_engine(model, settings, image(), streams=2)
        assert (engine.streams, engine.precision) == (2, precision)
        np.testing.assert_allclose(engine.forward(patch, 0), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("vnni", "cache")
def test_features_are_summed_before_the_last_layer(tmp_path: Path) -> None:
    """Calibrated, and then from the cache."""
    labels = {"background": 0} | {f"label {value}": value for value in range(1, 6)}
    many = load_model(RandomModel(labels=labels).write(tmp_path))
    (patch,) = image(7)((16, 16, 16), 1)
    expected = OpenVINOEngine(many, 1).forward(patch, 0)
    for _ in range(2):
        engine = choose_engine(many, SETTINGS, image(), True)
        assert engine.precision == "int8"
        assert engine.head_layer is not None
        features = engine.forward(patch, 0)
        assert len(features) == engine.head_layer.features == 4
        error = np.stack(list(engine.head_layer.apply(np.concatenate([features, np.ones_like(patch)])))) - expected
        assert 0 < error.std() < 0.5 * expected.std()


@pytest.mark.usefixtures("vnni")
def test_later_runs_calibrate_nothing(
    model: TrainedModel, cache: Path, calibrations: list[int], checks: list[int], request: pytest.FixtureRequest
) -> None:
    first = choose_engine(model, SETTINGS, image())
    request.getfixturevalue("no_torch_network")
    (patch,) = image(7)((16, 16, 16), 1)
    # An image that was checked, another one, and that again; with what is ready to run of both folds then.
    for seed, checked, ready in ((0, [8], 2), (1, [8, 2], 4), (1, [8, 2], 4)):
        later = choose_engine(model, SETTINGS, image(seed))
        assert (calibrations, checks) == ([4, 4], checked)
        assert later.precision == "int8"
        assert (later.agreement == first.agreement) == (seed == 0)
        np.testing.assert_array_equal(later.forward(patch, 1), first.forward(patch, 1))
        assert len(list(cache.glob("openvino/*/*.compiled"))) == ready


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="others have other kernels")
@pytest.mark.usefixtures("vnni", "full_cache")
def test_convolutions_are_computed_in_8_bits(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    core = load_openvino().Core
    networks = []

    def spied(function: Any) -> Any:
        def spy(*arguments: Any) -> Any:
            networks.append(function(*arguments))
            return networks[-1]

        return spy

    for name in ("compile_model", "import_model"):
        monkeypatch.setattr(core, name, spied(getattr(core, name)))
    choose_engine(model, SETTINGS, image(1))  # from the cache: of both folds for the crops f32, int8; then int8
    precisions = [
        [
            node.get_rt_info()["runtimePrecision"].astype(str)
            for node in network.get_runtime_model().get_ordered_ops()
            if node.get_rt_info()["layerType"].astype(str) == "Convolution"
        ]
        for network in networks
    ]
    assert len(precisions) == 2 + 4
    for f32 in precisions[:2]:
        assert set(f32) == {"f32"}
    skips = 1  # read by two convolutions in float32, see `convolve_apart`, and by one in int8
    for found in precisions[2:]:  # but for the last layer
        assert sorted(found) == ["f32", *["u8"] * (len(f32) - skips - 1)]


@pytest.mark.usefixtures("vnni", "full_cache")
def test_every_image_is_checked_once(model: TrainedModel, calibrations: list[int], checks: list[int]) -> None:
    def brighter(size: tuple[int, ...], most: int) -> Iterator[np.ndarray]:
        return (1000 + 1000 * crop for crop in image()(size, most))  # far beyond what was calibrated for

    for _ in range(2):
        engine = choose_engine(model, SETTINGS, brighter)
        assert (engine.precision, engine.agreement) == ("f32", None)
        assert engine.reason.startswith(
            f"{REASON}f32, not int8: it agrees too little with f32, Dice 0.8 is asked for: "
        )
        assert checks == [2]
    assert choose_engine(model, SETTINGS, image(1)).precision == "int8"
    assert choose_engine(model, replace(SETTINGS, agreement=0.0), brighter).precision == "int8"
    assert (calibrations, checks) == ([], [2, 2])


@pytest.mark.usefixtures("vnni")
def test_a_broken_entry_is_made_again(model: TrainedModel, calibrations: list[int], full_cache: Path) -> None:
    assert entries(full_cache) == 4
    key = int8.network_key(model, 1, "int8")
    weights = full_cache / "openvino" / key[:32] / "network.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    engine = choose_engine(model, SETTINGS, image())
    assert engine.precision == "int8"
    assert calibrations == [4, 4]
    assert int8.read_network(key) is not None


@pytest.mark.usefixtures("vnni")
def test_there_may_be_no_cache(model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "cache"))
    assert choose_engine(model, SETTINGS, image()).precision == "int8"


@pytest.mark.usefixtures("vnni")
def test_another_process_may_be_faster(
    model: TrainedModel, cache: Path, calibrations: list[int], checks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it kept was calibrated with another image, and this one has to be checked with it."""
    keep_network = int8.keep_network

    def second(network: Any, key: str) -> bool:
        assert keep_network(network, key)
        return keep_network(network, key)

    monkeypatch.setattr(int8, "keep_network", second)
    assert choose_engine(model, SETTINGS, image()).precision == "int8"
    assert list(cache.glob("openvino/*/*.compiled")) == []
    assert choose_engine(model, SETTINGS, image()).precision == "int8"
    assert (calibrations, checks) == ([4, 4], [8, 2])


def rounded_to_nothing(network: Any, _samples: object) -> Any:
    """A network of which quantization has left nothing: its weights are zero."""
    from openvino import opset13 as ops

    network = network.clone()
    result = network.get_results()[0]
    result.input(0).replace_source_output(ops.multiply(result.input_value(0), np.float32(0)).output(0))
    return network


@pytest.mark.usefixtures("vnni")
def test_a_network_that_quantization_damages_is_given_up(
    model: TrainedModel, cache: Path, checks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "quantized", rounded_to_nothing)
    for _ in range(2):
        engine = choose_engine(model, SETTINGS, image())
        assert (engine.precision, engine.agreement) == ("f32", None)
        # Three equal heads are background everywhere.
        assert ": Dice 0 for liver, the worst class, and " in engine.reason
        assert entries(cache) == 2  # in f32; what does not agree is not kept
        assert checks == [8]  # and remembered
    (patch,) = image(7)((16, 16, 16), 1)
    np.testing.assert_array_equal(engine.forward(patch, 0), OpenVINOEngine(model, 1).forward(patch, 0))


@pytest.mark.usefixtures("vnni", "cache")
def test_nncf_may_fail(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import nncf

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("first line\nno pattern fits")

    monkeypatch.setattr(nncf, "quantize", fail)
    engine = choose_engine(model, SETTINGS, image())
    assert engine.precision == "f32"
    assert engine.reason == f"{REASON}f32, not int8: nncf can't quantize the network: no pattern fits"


@pytest.mark.usefixtures("vnni", "cache")
def test_nncf_may_be_broken(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    engine = choose_engine(model, SETTINGS, image())
    assert engine.precision == "f32"
    assert engine.reason.startswith(f"{REASON}f32, not int8: nncf can't be loaded (")


@pytest.mark.usefixtures("vnni", "cache")
@pytest.mark.parametrize("parts", [0, 1])
def test_too_small_an_image(model: TrainedModel, parts: int) -> None:
    engine = choose_engine(model, SETTINGS, lambda size, _: image()(size, parts))
    assert engine.precision == "f32"
    assert engine.reason == (
        f"{REASON}f32, not int8: the image has too few parts of 8 x 8 x 8 voxels to calibrate and check it"
    )


@pytest.mark.usefixtures("vnni", "cache")
def test_two_parts_are_enough(model: TrainedModel, calibrations: list[int]) -> None:
    assert choose_engine(model, SETTINGS, lambda size, _: image()(size, 2)).precision == "int8"
    assert calibrations == [1, 1]


@pytest.mark.parametrize("plan", [True, False])
def test_why_not(model: TrainedModel, monkeypatch: pytest.MonkeyPatch, plan: bool) -> None:
    def why(settings: Settings) -> str:
        if plan:
            choice = plan_engine(model, settings)
            assert choice.precision == "f32"
            return choice.precision_reason
        engine: Engine = choose_engine(model, settings, nowhere)
        assert (engine.precision, engine.agreement) == ("f32", None)
        return engine.reason.removeprefix(REASON)

    assert why(Settings.fast(engine="torch", device="cpu", threads=1)) == "f32, not int8: torch computes in f32 alone"
    monkeypatch.setattr(int8, "int8_is_fast", lambda: False)
    assert why(SETTINGS) == "f32, not int8: this CPU has no VNNI, the instructions for it"
    monkeypatch.setattr(int8, "int8_is_fast", lambda: True)
    monkeypatch.setattr(int8, "installed_version", lambda _: None)
    assert why(SETTINGS) == (
        "f32, not int8: nncf is not installed; install it with 'pip install napari-nnunet-cpu[int8]'"
    )


@pytest.mark.usefixtures("vnni")
def test_exact_does_not_speak_of_it(model: TrainedModel) -> None:
    engine = choose_engine(model, Settings.exact(engine="openvino", threads=1), nowhere)
    assert (engine.precision, engine.reason) == ("f32", "asked for")


REGIONS = {"labels": {"background": 0, "all": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
OTHERS = {
    "regions": RandomModel(**REGIONS),
    "2d": RandomModel(patch=(32, 32), spacing=(1.0, 1.0), seed=2),
    "residual, two channels": RandomModel(family="ResidualEncoderUNet", channels=("CT", "PET")),
    "batch norm": RandomModel(trainer="nnUNetTrainerBN"),
}


@pytest.mark.usefixtures("vnni", "cache")
@pytest.mark.parametrize("random_model", OTHERS.values(), ids=OTHERS)
def test_other_networks(random_model: RandomModel, tmp_path: Path) -> None:
    model = load_model(random_model.write(tmp_path))
    parts = image(channels=model.input_channels)
    engine = choose_engine(model, SETTINGS, parts)
    assert engine.precision == "int8", engine.reason
    assert engine.agreement is not None
    assert engine.agreement.worst in model.labels.names.values()
    f32 = OpenVINOEngine(model, 1)
    (patch,) = parts(model.configuration.patch_size, 1)
    same = label(engine, patch, model.labels) == label(f32, patch, model.labels)
    assert same.mean() > 0.8


RUN = """
import sys
told = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request", "os.fork", "subprocess.Popen"):
        told.append(event)
        raise OSError(event)
sys.addaudithook(watch)
import numpy as np
from napari_nnunet_cpu import Settings, load_model
from napari_nnunet_cpu.engines import choose_engine
from napari_nnunet_cpu.engines.int8 import int8
int8.int8_is_fast = lambda: True
rng = np.random.default_rng(0)
crops = lambda size, most: (rng.normal(size=(1, *size)).astype(np.float32) for _ in range(most))
settings = Settings.fast(engine="openvino", threads=1, agreement=0.01)
engine = choose_engine(load_model(sys.argv[1]), settings, crops)
assert engine.precision == "int8", engine.reason
assert "openvino_telemetry" not in sys.modules
print(told, sorted({"nncf", "torch"} & sys.modules.keys()))
"""


def test_nobody_is_told_and_a_later_run_needs_neither_nncf_nor_torch(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = RandomModel(patch=(16, 16, 16)).write(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment |= {"HOME": str(home), "LOCALAPPDATA": str(home), "NAPARI_NNUNET_CPU_CACHE": str(tmp_path / "cache")}

    def run() -> tuple[str, str]:
        command = [sys.executable, "-W", "error", "-c", RUN, str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.stdout, done.stderr

    assert run() == ("[] ['nncf', 'torch']\n", "")
    assert run() == ("[] []\n", "")
    assert not list(home.iterdir())
