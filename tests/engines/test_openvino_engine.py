import gc
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_model import RandomModel

from napari_nnunet_cpu import TrainedModel, load_model
from napari_nnunet_cpu.engines.openvino.library import load_openvino
from napari_nnunet_cpu.engines.openvino.openvino_engine import OpenVINOEngine
from napari_nnunet_cpu.engines.torch_engine import TorchEngine
from napari_nnunet_cpu.errors import EngineError, ModelError
from napari_nnunet_cpu.resources import usable_cores

pytestmark = pytest.mark.slow

RESIDUAL = "dynamic_network_architectures.building_blocks.residual"
NO_NORM = {"norm_op": None, "norm_op_kwargs": None}
DROPOUT = {"dropout_op": "torch.nn.modules.dropout.Dropout3d", "dropout_op_kwargs": {"p": 0.5, "inplace": True}}
FLAT_STRIDES = {
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 4]],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 5, 3]],
}
BOTTLENECK = {"block": f"{RESIDUAL}.BottleneckD", "bottleneck_channels": [2, 3, 4], "stem_channels": 5}
EVEN = {"kernel_sizes": [[3, 3, 3], [3, 3, 3], [2, 4, 3]], "n_conv_per_stage": [1, 1, 1]}
RUNNING = {"norm_op_kwargs": {"eps": 1e-3, "affine": False, "track_running_stats": True}}

MODELS = {
    "3d": RandomModel(),
    "2d": RandomModel(patch=(16, 12), spacing=(1.0, 1.0)),
    "two channels, five heads": RandomModel(
        channels=("CT", "PET"), labels={"background": 0, "a": 1, "b": 2, "c": 3, "d": 4}
    ),
    "regions": RandomModel(labels={"background": 0, "all": [1, 2], "core": [2]}, regions_class_order=[1, 2]),
    "old plans": RandomModel(old_layout=True),
    "residual encoder": RandomModel(family="ResidualEncoderUNet"),
    "residual encoder 2d": RandomModel(family="ResidualEncoderUNet", patch=(16, 12), spacing=(1.0, 1.0)),
    "residual decoder": RandomModel(family="ResidualUNet"),
    "bottleneck": RandomModel(family="ResidualEncoderUNet", architecture=BOTTLENECK),
    "batch norm": RandomModel(trainer="nnUNetTrainerBN"),
    "running statistics": RandomModel(architecture=RUNNING),
    "no norm": RandomModel(architecture=NO_NORM),
    "dropout": RandomModel(architecture=DROPOUT),
    "relu first": RandomModel(architecture={"nonlin": "torch.nn.ReLU", "nonlin_kwargs": None, "nonlin_first": True}),
    "no bias": RandomModel(architecture={"conv_bias": False}),
    "anisotropic": RandomModel(patch=(6, 12, 24), architecture=FLAT_STRIDES),
    "even kernels": RandomModel(architecture=EVEN),
    "cascade": RandomModel(patch=(8, 8, 8), first_stage=RandomModel(called="3d_lowres", patch=(8, 8, 8))),
}


def patch_of(model: TrainedModel, seed: int = 0) -> np.ndarray:
    shape = (model.input_channels, *model.configuration.patch_size)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def engine(model: TrainedModel) -> OpenVINOEngine:
    """One for all tests that only let it run."""
    return OpenVINOEngine(model, 1)


@pytest.mark.parametrize("random_model", MODELS.values(), ids=MODELS)
def test_logits_are_torchs(random_model: RandomModel, tmp_path: Path) -> None:
    model = load_model(random_model.write(tmp_path))
    engine, torch_engine = OpenVINOEngine(model, 1), TorchEngine(model, "cpu", 1)
    patch = patch_of(model)
    expected = torch_engine.forward(patch, 0)
    found = engine.forward(patch, 0)
    assert found.dtype == np.float32
    assert found.shape == (model.labels.heads, *model.configuration.patch_size)
    assert 2 < expected.std() < 10
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=5e-4)


def test_every_fold_has_its_own_weights(model: TrainedModel, engine: OpenVINOEngine) -> None:
    torch_engine, patch = TorchEngine(model, "cpu", 1), patch_of(model)
    expected = [torch_engine.forward(patch, fold) for fold in range(2)]
    assert engine.folds == 2
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    for fold in (0, 1, 1, 0):
        np.testing.assert_allclose(engine.forward(patch, fold), expected[fold], rtol=1e-4, atol=1e-4)


def test_passes_do_not_depend_on_those_before(model: TrainedModel, engine: OpenVINOEngine) -> None:
    first = engine.forward(patch_of(model), 0).copy()
    engine.forward(patch_of(model, seed=1), 0)
    engine.forward(patch_of(model, seed=1), 1)
    np.testing.assert_array_equal(engine.forward(patch_of(model), 0), first)


def test_any_patch_is_taken_and_left_alone(model: TrainedModel, engine: OpenVINOEngine) -> None:
    patch = patch_of(model)
    expected = engine.forward(patch, 0).copy()
    patch.flags.writeable = False
    np.testing.assert_array_equal(engine.forward(patch, 0), expected)
    strided = np.repeat(patch, 2, axis=-1)[..., ::2]
    np.testing.assert_array_equal(engine.forward(strided, 0), expected)
    np.testing.assert_array_equal(patch, patch_of(model))


def test_memory_of_a_pass_is_given_back_when_another_fold_takes_over(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OpenVINOEngine(model, 1)
    compiled_model = load_openvino().CompiledModel
    given_back, release = [], compiled_model.release_memory
    monkeypatch.setattr(compiled_model, "release_memory", lambda self: given_back.append(self) or release(self))
    for fold in (0, 0, 1, 1, 0):
        engine.forward(patch_of(model), fold)
    assert len(given_back) == 2
    assert given_back[0] is not given_back[1]


def test_what_is_asked_of_openvino(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    core = load_openvino().Core
    compiled, compile_model = [], core.compile_model

    def spy(*arguments: Any) -> Any:
        compiled.append(compile_model(*arguments))
        return compiled[-1]

    monkeypatch.setattr(core, "compile_model", spy)
    engine = OpenVINOEngine(model, 1, "a test asks")
    assert (engine.name, engine.device, engine.precision) == ("openvino", "cpu", "f32")
    assert (engine.threads, engine.reason) == (1, "a test asks")
    assert len(compiled) == 2
    wanted = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    for one in compiled:
        assert {name: one.get_property(name) for name in wanted} == wanted
        assert one.get_property("INFERENCE_PRECISION_HINT") == load_openvino().Type.f32
        assert str(one.get_property("PERFORMANCE_HINT")).endswith("LATENCY")


def test_passes_at_a_time_keep_out_of_each_others_way(model: TrainedModel, engine: OpenVINOEngine) -> None:
    several = OpenVINOEngine(model, 2, streams=2)
    assert several.streams == 2
    tasks = [(seed, fold) for seed in range(6) for fold in range(2)]
    expected = [engine.forward(patch_of(model, seed), fold).copy() for seed, fold in tasks]
    meeting = threading.Barrier(2)

    def go_through(tasks: list[tuple[int, int]]) -> list[np.ndarray]:
        found = []
        for seed, fold in tasks:
            meeting.wait(20)
            found.append(several.forward(patch_of(model, seed), fold).copy())
        return found

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(go_through, (tasks, tasks[::-1])))
    for order in (found[0], found[1][::-1]):
        for one, other in zip(order, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_what_a_thread_was_given_lasts_until_its_next_pass(model: TrainedModel) -> None:
    engine = OpenVINOEngine(model, 2, streams=2)
    given = engine.forward(patch_of(model, 0), 0)
    before = given.copy()
    other = threading.Thread(target=engine.forward, args=(patch_of(model, 1), 0))
    other.start()
    other.join()
    np.testing.assert_array_equal(given, before)
    engine.forward(patch_of(model, 1), 0)
    assert np.abs(given - before).max() > 0.1


def test_threads_that_are_gone_leave_what_they_had(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, made = OpenVINOEngine(model, 2, streams=2), []
    create = load_openvino().CompiledModel.create_infer_request
    monkeypatch.setattr(
        load_openvino().CompiledModel, "create_infer_request", lambda self: made.append(self) or create(self)
    )
    expected = engine.forward(patch_of(model), 0).copy()
    found = []
    for _ in range(5):
        thread = threading.Thread(target=lambda: found.append(engine.forward(patch_of(model), 0).copy()))
        thread.start()
        thread.join()
    assert len(made) == engine.folds  # those of one more thread
    for logits in found:
        np.testing.assert_array_equal(logits, expected)


def test_streams_are_those_it_gets(model: TrainedModel) -> None:
    engine = OpenVINOEngine(model, 1, streams=4)
    assert engine.streams <= engine.threads == 1


def test_threads_are_those_it_takes(model: TrainedModel) -> None:
    assert 1 <= OpenVINOEngine(model, usable_cores()).threads <= usable_cores()


@pytest.mark.parametrize("shape", [(2, 8, 8, 8), (1, 8, 8), (1, 1, 8, 8), (1, 8, 8, 9)])
def test_another_shape_is_refused(engine: OpenVINOEngine, shape: tuple[int, ...]) -> None:
    with pytest.raises(EngineError, match=r"running the network failed: it takes \(1, 8, 8, 8\), found \(") as raised:
        engine.forward(np.zeros(shape, np.float32), 0)
    assert str(shape) in str(raised.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(model: TrainedModel, engine: OpenVINOEngine, value: float) -> None:
    patch = patch_of(model)
    patch[0, 1, 2, 3] = value
    with pytest.raises(EngineError, match="numbers that are not finite"):
        engine.forward(patch, 0)
    assert np.isfinite(engine.forward(patch_of(model), 0)).all()


OPENVINO_SAYS = (
    "Exception from src/inference/src/cpp/core.cpp:84:\nCheck 'false' failed at a.cpp:1:\nNo such thing.\n\n"
)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError(OPENVINO_SAYS), "{} failed: No such thing"),
        (RuntimeError(), "{} failed: RuntimeError"),
        (MemoryError(), "{}: out of memory; free some"),
    ],
    ids=["its own", "empty", "memory"],
)
def test_openvinos_errors_become_ours(
    model: TrainedModel, engine: OpenVINOEngine, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(load_openvino().InferRequest, "infer", fail)
    with pytest.raises(EngineError) as raised:
        engine.forward(patch_of(model), 0)
    assert str(raised.value) == message.format("running the network")
    monkeypatch.setattr(load_openvino().Core, "compile_model", fail)
    with pytest.raises(EngineError) as raised:
        OpenVINOEngine(model, 1)
    assert str(raised.value) == message.format("preparing the network")
    assert raised.value.__cause__ is error


@pytest.mark.usefixtures("cache")
def test_a_damaged_checkpoint_is_the_models_fault(tmp_path: Path) -> None:
    model = load_model(RandomModel(patch=(8, 8, 8)).write(tmp_path))
    model.checkpoints[0].write_bytes(model.checkpoints[0].read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth"):
        OpenVINOEngine(model, 1)


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[Any]]]:
    """Of every network of torch's that is built: itself and its first weight."""
    built: list[weakref.ref[Any]] = []
    build = TrainedModel.network

    def network(model: TrainedModel, fold: int) -> torch.nn.Module:
        made = build(model, fold)
        built.extend([weakref.ref(made), weakref.ref(next(made.parameters()))])
        return made

    monkeypatch.setattr(TrainedModel, "network", network)
    return built


def test_torchs_networks_are_not_kept(model: TrainedModel, cache: Path, networks: list[weakref.ref[Any]]) -> None:
    engine = OpenVINOEngine(model, 1)
    gc.collect()
    assert len(networks) == 4
    assert [reference() for reference in networks] == [None] * 4
    assert engine.forward(patch_of(model), 1).std() > 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mapped")
def test_the_checkpoint_is_not_kept_open(tmp_path: Path) -> None:
    model = load_model(RandomModel(patch=(8, 8, 8), seed=8).write(tmp_path))
    maps, checkpoint = Path("/proc/self/maps"), str(model.checkpoints[0])
    network = model.network(0)
    assert checkpoint in maps.read_text()
    del network
    engine = OpenVINOEngine(model, 1)
    gc.collect()
    assert checkpoint not in maps.read_text()
    assert engine.forward(patch_of(model), 0).std() > 0.5


def test_the_weights_outlive_the_checkpoint(tmp_path: Path) -> None:
    model = load_model(RandomModel(patch=(8, 8, 8), seed=7).write(tmp_path))
    expected = TorchEngine(model, "cpu", 1).forward(patch_of(model), 0)
    engine = OpenVINOEngine(model, 1)
    model.checkpoints[0].unlink()
    gc.collect()
    np.testing.assert_allclose(engine.forward(patch_of(model), 0), expected, rtol=1e-4, atol=1e-4)


WITHOUT_TORCH = """
import pickle, sys
sys.modules["torch"] = None
import numpy as np
from napari_nnunet_cpu import Settings
from napari_nnunet_cpu.engines import choose_engine
with open(sys.argv[1], "rb") as file:
    model, patch = pickle.load(file)
engine = choose_engine(model, Settings(device="cpu", engine="openvino", threads=1))
np.save(sys.argv[2], engine.forward(patch, 1))
"""


def test_a_network_converted_before_needs_no_torch(model: TrainedModel, tmp_path: Path) -> None:
    expected = OpenVINOEngine(model, 1).forward(patch_of(model), 1)
    given, result = tmp_path / "given.pickle", tmp_path / "logits.npy"
    given.write_bytes(pickle.dumps((model, patch_of(model))))
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, given, result], check=True)
    np.testing.assert_array_equal(np.load(result), expected)


def test_importing_the_engines_loads_neither_torch_nor_openvino() -> None:
    code = (
        "import sys, napari_nnunet_cpu.engines, napari_nnunet_cpu.engines.openvino.openvino_engine; "
        "print(*{'torch', 'openvino'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
