"""Checkpoints that hold more than nnU-Net's own: plain values are read, what could run something is refused."""

import collections
import contextlib
import datetime
import os
import pathlib
import pickle
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import CHECKPOINT, Payload, edit_checkpoint, edit_records, put
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError

pytestmark = pytest.mark.slow

WEIGHT = "decoder.seg_layers.1.weight"
PLACES = ["logging", "optimizer_state", "init_args.plans", "something_else"]

numbers = st.sampled_from(["i1", "u2", "<i4", ">i4", "i8", "f2", "f4", ">f8", "c8", "b1", "U3", "S3", "M8[s]"])
arrays = st.builds(
    lambda dtype, shape, order: np.zeros(shape, dtype, order),
    numbers,
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from("CF"),
)
paths = st.builds(
    lambda kind, parts: kind(*parts),
    st.sampled_from([pathlib.Path, pathlib.PurePosixPath, pathlib.PureWindowsPath]),
    st.lists(st.sampled_from(["/", "C:\\", "nnUNet_results", "fold_0", "a b"]), max_size=3),
)
plain = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5) | paths
    | arrays | arrays.filter(lambda array: array.size).map(lambda array: array.flat[0])
    | st.sampled_from([
        np.dtype("f4"), np.dtype([("a", "i4"), ("b", "f8")]), np.float32, np.int64, frozenset({1}), {2, 3}, range(3),
        slice(1, 2), torch.__version__, torch.device("cpu"), torch.float32, 1j, datetime.timedelta(1),
        datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC),
    ])
)  # fmt: skip


def with_default(factory, items):
    found = collections.defaultdict(factory)
    found.update(items)
    return found


def of_objects(items):
    found = np.empty(len(items), object)
    found[:] = items
    return found


keys = st.integers(0, 9) | st.text(max_size=3)
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(of_objects)
        | st.dictionaries(keys, inner, max_size=3)
        | st.builds(
            with_default,
            st.sampled_from([list, dict, int, float, set, str, tuple, bool, None, np.float64]),
            st.dictionaries(keys, inner, max_size=3),
        )
    ),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """A model that allows mirroring; not to be changed."""
    return RandomModel(mirror_axes=(0, 2)).write(tmp_path_factory.mktemp("mirrored"))


@pytest.fixture(scope="module")
def copy(mirrored, tmp_path_factory):
    """One for the module: a generated test changes it anew each time."""
    return shutil.copytree(mirrored, tmp_path_factory.mktemp("copy") / "model")


@pytest.fixture(scope="module")
def expected(mirrored):
    """A weight of it."""
    return torch.load(mirrored / CHECKPOINT, weights_only=False)["network_weights"][WEIGHT]


def changed(original, copy, change):
    shutil.copy(original / CHECKPOINT, copy / CHECKPOINT)
    edit_checkpoint(copy / CHECKPOINT, change)
    return copy


def renamed(old, new):
    def rename(records):
        (name,) = (name for name in records if name.endswith("/data.pkl"))
        records[name] = records[name].replace(old, new)

    return rename


NAMES = [
    (b"", b""),
    (b"cnumpy._core.", b"cnumpy.core."),
    (b"cpathlib\nPureWindowsPath", b"cpathlib\nWindowsPath"),
    (b"cpathlib\n", b"cpathlib._local\n"),
]


@settings(max_examples=60)
@given(value=values, place=st.sampled_from(PLACES), names=st.sampled_from(NAMES))
def test_plain_values_beside_the_weights_change_nothing(mirrored, copy, expected, value, place, names):
    changed(mirrored, copy, lambda content: put(content, place, value))
    edit_records(copy / CHECKPOINT, renamed(*names))
    model = load_model(copy)
    assert (model.mirror_axes, model.trainer) == ((0, 2), "nnUNetTrainer")
    assert torch.equal(model.network(0).state_dict()[WEIGHT], expected)


def test_arguments_may_be_a_dictionary_with_a_default(mirrored, copy):
    def change(content):
        content["init_args"] = with_default(list, content["init_args"])

    assert load_model(changed(mirrored, copy, change)).configuration_name == "3d_fullres"


@given(
    axes=st.sets(st.integers(0, 2)),
    dtype=st.sampled_from(["i1", "u1", "<i2", ">i2", "<u4", ">i4", "<i8", ">i8", ">u8"]),
    kind=st.sampled_from(["array", "scalars", "list", "set", "numbers"]),
    names=st.sampled_from(NAMES[:2]),
)
def test_axes_may_be_numbers_of_numpy(mirrored, copy, axes, dtype, kind, names):
    array = np.array(sorted(axes), dtype)
    given_as = {"array": array, "scalars": tuple(array), "list": list(array), "set": axes, "numbers": tuple(axes)}[kind]
    changed(mirrored, copy, lambda content: put(content, "inference_allowed_mirroring_axes", given_as))
    edit_records(copy / CHECKPOINT, renamed(*names))
    assert load_model(copy).mirror_axes == tuple(sorted(axes))


@pytest.mark.parametrize(
    "axes",
    [
        np.array([0, 3]), np.array([-1]), np.array([0.0, 1.0]), np.array([True, False]), np.array([[0, 1]]),
        np.array(1), np.array([0, 1], object), np.array(["0"]), np.zeros(10_000, int), np.int64(1), (np.float32(1),),
        (np.array([0]), np.array([0, 1])), (0, None), [np.array([[1]])], np.dtype("i8"), pathlib.Path("0"), {0: 1},
        collections.defaultdict(list), torch.tensor([0, 1]), (torch.tensor([0, 1]),), 5, "01",
    ],
    ids=repr,
)  # fmt: skip
def test_axes_that_are_none_are_refused(mirrored, copy, axes):
    changed(mirrored, copy, lambda content: put(content, "inference_allowed_mirroring_axes", axes))
    with pytest.raises(ModelError, match="inference_allowed_mirroring_axes must be axis numbers, found ") as caught:
        load_model(copy)
    assert len(str(caught.value)) < 400
    assert " object at " not in str(caught.value)


def call(name, *arguments):
    """Calls a function or class by the name that a checkpoint gives it."""
    module, _, attribute = name.rpartition(".")
    return Payload(getattr(__import__(module, fromlist=[attribute]), attribute), *arguments)


# What each kind of plain value may hide; `run` is the payload.
HOSTILE = {
    "array of objects": lambda run: of_objects([1, run]),
    "array of arrays": lambda run: of_objects([of_objects([run])]),
    "array made of it": lambda run: call("numpy._core.multiarray._reconstruct", np.ndarray, (0,), run),
    "scalar of it": lambda run: call("numpy._core.multiarray.scalar", np.dtype("i8"), run),
    "scalar of its type": lambda run: call("numpy._core.multiarray.scalar", run, b"12345678"),
    "type of it": lambda run: call("numpy.dtype", run),
    "default": lambda _: collections.defaultdict(os.system, {1: 2}),
    "default made of it": lambda run: call("collections.defaultdict", run),
    "value with a default": lambda run: with_default(list, {1: run}),
    "key with a default": lambda run: with_default(list, {call("pathlib.PurePosixPath", run): 1}),
    "path": lambda run: call("pathlib.PosixPath", "a", run),
    "path of another system": lambda run: call("pathlib.PureWindowsPath", run),
    "date": lambda run: call("datetime.datetime", run),
    "frozen set": lambda run: frozenset({run}),
    "slice": lambda run: slice(run, None),
}  # fmt: skip


@pytest.mark.parametrize("place", [*PLACES, "inference_allowed_mirroring_axes", "init_args", "trainer_name"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_payload_in_a_plain_value_is_named_and_not_run(mirrored, copy, tmp_path, kind, place):
    marker = tmp_path / "payload-was-run"
    changed(mirrored, copy, lambda _: None)
    content = torch.load(copy / CHECKPOINT, weights_only=False)
    put(content, place, HOSTILE[kind](Payload(os.system, f"touch {marker}")))
    torch.save(content, copy / CHECKPOINT)
    with pytest.raises(ModelError, match=r"was refused: it asks to load posix\.system, which is more than weights$"):
        load_model(copy)
    assert not marker.exists()


def test_those_payloads_work(tmp_path):
    """Or the test above would pass for nothing."""
    for kind in HOSTILE.keys() - {"default"}:
        marker = tmp_path / "payload-was-run"
        stored = pickle.dumps(HOSTILE[kind](Payload(os.system, f"touch {marker}")), 2)
        with contextlib.suppress(TypeError, ValueError):  # the real class has no use for what the payload gave it
            pickle.loads(stored)
        assert marker.exists(), kind
        marker.unlink()


INSTRUCTIONS = {
    "a call of a stand-in's object": b"cnumpy\ndtype\n)R)R",
    "an item of a stand-in": b"cnumpy\nndarray\n)R(K\x01K\x02u",
    "an entry of a stand-in": b"cnumpy\nndarray\n)RK\x01a",
    "a state of a function": b"ccollections\ndefaultdict\n}b",
    "a name from the stack": b"X\x05\x00\x00\x00posixX\x06\x00\x00\x00system\x93",
    "an extension": b"\x82\x01",
    "an instance": b"(iposix\nsystem\n",
    "an object": b"(cnumpy\ndtype\no",
    "a foreign storage": b"X\x01\x00\x00\x00aQ",
}


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_instructions_that_weights_do_not_need_are_refused_in_our_words(mirrored, copy, kind):
    shutil.copy(mirrored / CHECKPOINT, copy / CHECKPOINT)

    def replace(records):
        (name,) = (name for name in records if name.endswith("/data.pkl"))
        records[name] = b"\x80\x02" + INSTRUCTIONS[kind] + b"."

    edit_records(copy / CHECKPOINT, replace)
    with pytest.raises(ModelError) as caught:
        load_model(copy)
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "was refused: " in str(caught.value) or "is damaged: " in str(caught.value)


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_other_protocols_of_pickle_are_refused_in_our_words(mirrored, copy, protocol):
    content = torch.load(mirrored / CHECKPOINT, weights_only=False)
    torch.save(content, copy / CHECKPOINT, pickle_protocol=protocol)
    found = f"pickle protocol {protocol}" if protocol > 1 else "another protocol"
    with pytest.raises(
        ModelError, match=rf"was saved with {found}, which can't be read safely; ask for a checkpoint of"
    ):
        load_model(copy)


def test_a_program_is_no_checkpoint(mirrored, copy):
    shutil.copy(mirrored / CHECKPOINT, copy / CHECKPOINT)
    edit_records(copy / CHECKPOINT, lambda records: records.update({"checkpoint_final/constants.pkl": b""}))
    with pytest.raises(ModelError, match="is a TorchScript program, not a checkpoint; it was refused$"):
        load_model(copy)


def test_nothing_of_it_stays_allowed(mirrored, copy):
    before = set(torch.serialization.get_safe_globals())
    load_model(changed(mirrored, copy, lambda content: put(content, "logging", np.zeros(3))))
    assert set(torch.serialization.get_safe_globals()) == before
