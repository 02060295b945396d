"""Networks kept on disk: used again, never trusted when damaged, done without when they can't be."""

import errno
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_nnunet_cpu import TrainedModel
from napari_nnunet_cpu.engines.openvino import network_cache
from napari_nnunet_cpu.engines.openvino.conversion import convert
from napari_nnunet_cpu.engines.openvino.library import load_openvino
from napari_nnunet_cpu.engines.openvino.network_cache import keep_network, network_key, read_network
from napari_nnunet_cpu.engines.openvino.openvino_engine import OpenVINOEngine
from napari_nnunet_cpu.models.network.primus import Primus

pytestmark = pytest.mark.slow

PATCH = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)
FILES = ["network.bin", "network.xml", "sha256.json"]


def fold_of(model: TrainedModel, number: int) -> TrainedModel:
    part = slice(number, number + 1)
    return replace(
        model,
        folds=model.folds[part],
        checkpoints=model.checkpoints[part],
        checkpoint_sha256=model.checkpoint_sha256[part],
    )


@pytest.fixture(scope="module")
def one(model: TrainedModel) -> TrainedModel:
    """The model with its first fold alone."""
    return fold_of(model, 0)


@pytest.fixture(scope="module")
def expected(one: TrainedModel) -> np.ndarray:
    return logits_of(one)


@pytest.fixture(scope="module")
def kept(one: TrainedModel, expected: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that was empty before, with the entry of that fold; not to be changed."""
    path = tmp_path_factory.mktemp("kept") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_NNUNET_CPU_CACHE", str(path))
        assert_logits(one, expected)
    return path


@pytest.fixture
def entry(kept: Path, cache: Path) -> Path:
    """That entry, in a cache of this test alone."""
    shutil.copytree(kept, cache)
    (entry,) = entries(cache)
    return entry


def logits_of(model: TrainedModel) -> np.ndarray:
    return OpenVINOEngine(model, 1).forward(PATCH, 0).copy()


def assert_logits(model: TrainedModel, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(logits_of(model), expected)


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "openvino").iterdir())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_second_engine_converts_nothing(
    one: TrainedModel, expected: np.ndarray, entry: Path, no_torch_network: None
) -> None:
    before = content(entry)
    assert list(before) == FILES
    assert_logits(one, expected)
    assert content(entry) == before
    assert entries(entry.parents[1]) == [entry]


def test_folds_are_kept_one_by_one(
    model: TrainedModel, entry: Path, expected: np.ndarray, request: pytest.FixtureRequest
) -> None:
    both = OpenVINOEngine(model, 1)
    assert len(entries(entry.parents[1])) == 2
    request.getfixturevalue("no_torch_network")
    second = fold_of(model, 1)
    assert_logits(second, both.forward(PATCH, 1))
    np.testing.assert_array_equal(both.forward(PATCH, 0), expected)


def test_weights_are_float32_on_disk(one: TrainedModel, entry: Path) -> None:
    network = one.network(0)
    used = sum(parameter.numel() for parameter in network.parameters())
    unused = sum(parameter.numel() for parameter in network.decoder.seg_layers[0].parameters())
    assert (entry / "network.bin").stat().st_size >= 4 * (used - unused)


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[1003] ^= 0x40  # the exponent of a weight
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def fill_with_garbage(file: Path) -> None:
    file.write_bytes(np.random.default_rng(0).bytes(file.stat().st_size))


def write_a_list(file: Path) -> None:
    file.write_text('["not", "a", "mapping"]')


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("network.bin", flip_a_bit),
        ("network.bin", cut),
        ("network.bin", Path.unlink),
        ("network.xml", cut),
        ("network.xml", fill_with_garbage),
        ("network.xml", Path.unlink),
        ("sha256.json", fill_with_garbage),
        ("sha256.json", write_a_list),
        ("sha256.json", Path.unlink),
    ],
)
def test_a_broken_entry_is_made_again(
    one: TrainedModel, expected: np.ndarray, entry: Path, name: str, harm: Callable[[Path], None]
) -> None:
    weights = (entry / "network.bin").read_bytes()
    harm(entry / name)
    assert_logits(one, expected)
    assert list(content(entry)) == FILES
    assert (entry / "network.bin").read_bytes() == weights
    assert read_network(network_key(one, 0, "f32")) is not None


def test_a_broken_entry_may_not_be_removable(
    one: TrainedModel, expected: np.ndarray, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_a_bit(entry / "network.bin")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    assert_logits(one, expected)


def test_there_may_be_no_cache_folder(one: TrainedModel, expected: np.ndarray, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert_logits(one, expected)
    assert cache.is_file()


def test_it_may_not_be_written_to(
    one: TrainedModel, expected: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert_logits(one, expected)
    assert entries(cache) == []


def full_at_once(_network: Any, _path: Path, **_: Any) -> None:
    raise RuntimeError("Check 'bin_file' failed at serialize.cpp:124:\nCan't open bin file")


def full_half_way(network: Any, path: Path, **_: Any) -> None:
    load_openvino().serialize(network, path)
    cut(path.with_suffix(".bin"))
    raise RuntimeError("No space left on device")


def weights_cut_unnoticed(network: Any, path: Path, **_: Any) -> None:
    load_openvino().serialize(network, path)
    cut(path.with_suffix(".bin"))


def network_cut_unnoticed(network: Any, path: Path, **_: Any) -> None:
    load_openvino().serialize(network, path)
    cut(path)


def full_before_the_hashes(network: Any, path: Path, **_: Any) -> None:
    load_openvino().serialize(network, path)
    (path.parent / "sha256.json").mkdir()  # so that writing it fails


@pytest.mark.parametrize(
    "full", [full_at_once, full_half_way, weights_cut_unnoticed, network_cut_unnoticed, full_before_the_hashes]
)
def test_the_disk_may_be_full(
    one: TrainedModel, expected: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch, full: Callable[..., None]
) -> None:
    monkeypatch.setattr(load_openvino(), "save_model", full)
    assert_logits(one, expected)
    assert entries(cache) == []


def test_another_process_may_be_faster(
    one: TrainedModel, expected: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, network = network_key(one, 0, "f32"), convert(one, 0, 1)
    save = load_openvino().save_model
    theirs: list[dict[str, bytes]] = []

    def overtaken(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(load_openvino(), "save_model", save)
        keep_network(network, key)
        theirs.append(content(entries(cache)[-1]))
        save(*arguments, **options)

    monkeypatch.setattr(load_openvino(), "save_model", overtaken)
    keep_network(network, key)
    assert len(theirs) == 1
    assert [content(entry) for entry in entries(cache)] == theirs
    assert_logits(one, expected)


def test_many_may_write_at_once(model: TrainedModel, cache: Path) -> None:
    key, networks = network_key(model, 0, "f32"), [convert(model, 0, 1) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda network: keep_network(network, key), networks))
        found = list(pool.map(read_network, [key] * 3))
    assert len(entries(cache)) == 1
    assert [list(network.output(0).shape) for network in found] == [[1, 3, 8, 8, 8]] * 3


def test_what_is_not_there_is_not_found(cache: Path) -> None:
    assert read_network("0" * 64) is None
    assert not cache.exists()


def with_patch(model: TrainedModel) -> TrainedModel:
    return replace(model, configuration=model.configuration.model_copy(update={"patch_size": (8, 8, 16)}))


def with_slope(model: TrainedModel) -> TrainedModel:
    architecture = model.architecture
    options = architecture.nonlin_kwargs.model_copy(update={"negative_slope": 0.02})
    return replace(model, architecture=architecture.model_copy(update={"nonlin_kwargs": options}))


def with_labels(model: TrainedModel) -> TrainedModel:
    return replace(model, labels=replace(model.labels, heads=4))


@pytest.mark.parametrize(
    "change",
    [
        with_patch,
        with_slope,
        with_labels,
        lambda model: replace(model, channel_names=("CT", "PET")),
        lambda model: fold_of(model, 1),
        lambda model: replace(model, architecture=Primus("PrimusS", (8, 8, 8))),
    ],
    ids=["patch", "architecture", "heads", "channels", "weights", "primus"],
)
def test_another_network_has_another_key(model: TrainedModel, change: Callable[[TrainedModel], TrainedModel]) -> None:
    assert network_key(change(model), 0, "f32") != network_key(model, 0, "f32")


def test_keys_depend_on_fold_precision_and_versions(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [network_key(model, 0, "f32"), network_key(model, 1, "f32"), network_key(model, 0, "int8")]
    monkeypatch.setattr(network_cache, "_CONVERTER", network_cache._CONVERTER + 1)
    keys.append(network_key(model, 0, "f32"))
    monkeypatch.setattr(network_cache, "openvino_version", lambda: "2099.1.0-1-abc")
    keys.append(network_key(model, 0, "f32"))
    keys.append(network_key(model, 0, "int8"))
    monkeypatch.setattr(network_cache, "installed_version", lambda _: "99.0")
    keys.append(network_key(model, 0, "int8"))
    assert network_key(model, 0, "f32") in keys  # which does not depend on nncf
    assert len(set(keys)) == len(keys)


def test_what_does_not_matter_has_no_part_in_the_key(model: TrainedModel, tmp_path: Path) -> None:
    moved = [Path(shutil.copy(path, tmp_path / f"{number}.pth")) for number, path in enumerate(model.checkpoints)]
    other = replace(model, folder=tmp_path, name="Other", checkpoints=tuple(moved), mirror_axes=(0,))
    assert network_key(other, 0, "f32") == network_key(model, 0, "f32")


def test_a_primus_depends_on_the_library_it_comes_from(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    primus, keys = replace(model, architecture=Primus("PrimusS", (8, 8, 8))), set()
    for version in ("0.4.4", "0.4.5"):
        monkeypatch.setattr(network_cache, "installed_version", lambda _, version=version: version)
        keys.add(network_key(primus, 0, "f32"))
    assert len(keys) == 2
