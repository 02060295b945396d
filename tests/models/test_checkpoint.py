import builtins
import os
import pickle
import shutil
import subprocess
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_files import CHECKPOINT, Payload, edit_checkpoint, edit_records, put, spoil

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError

pytestmark = pytest.mark.slow

WEIGHT = "decoder.seg_layers.1.weight"
CONV = "encoder.stages.0.0.convs.0.conv.weight"


# By the names that pickle writes, which are those of Python 2.
PAYLOADS = {
    "posix.system": lambda marker: Payload(os.system, f"touch {marker}"),
    "builtins.exec": lambda marker: Payload(exec, f"open({marker!r}, 'w').close()"),
    "builtins.eval": lambda marker: Payload(eval, f"open({marker!r}, 'w').close()"),
    "commands.Popen": lambda marker: Payload(subprocess.Popen, ["touch", marker]),
    "io.open": lambda marker: Payload(builtins.open, marker, "w"),
}
PLACES = [
    "network_weights",
    ("network_weights", WEIGHT),
    "optimizer_state",
    "logging.train_losses",
    "_best_ema",
    "init_args",
    "init_args.device",
    "trainer_name",
    "inference_allowed_mirroring_axes",
    "something_else",
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place if isinstance(place, str) else place[0] + ".weight")
@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_is_named_and_not_run(folder, tmp_path, name, place):
    marker = tmp_path / "payload-was-run"
    content = torch.load(folder / CHECKPOINT, weights_only=False)
    put(content, place, PAYLOADS[name](str(marker)))
    torch.save(content, folder / CHECKPOINT)
    with pytest.raises(ModelError, match=rf"was refused: it asks to load {name}, which is more than weights$"):
        load_model(folder)
    assert not marker.exists()


def test_the_payloads_work(tmp_path):
    """Or the tests above would pass for nothing."""
    for name, payload in PAYLOADS.items():
        marker = tmp_path / name
        result = pickle.loads(pickle.dumps(payload(str(marker))))
        if isinstance(result, subprocess.Popen):
            result.wait()
        elif hasattr(result, "close"):
            result.close()
        assert marker.exists()


def test_a_payload_that_is_the_whole_file_is_not_run(folder, tmp_path):
    marker = tmp_path / "payload-was-run"
    torch.save(PAYLOADS["posix.system"](str(marker)), folder / CHECKPOINT)
    with pytest.raises(ModelError, match=r"asks to load posix\.system"):
        load_model(folder)
    assert not marker.exists()


@pytest.mark.parametrize("legacy", [True, False], ids=["old-torch-format", "plain-pickle"])
def test_a_payload_in_another_format_is_not_run(folder, tmp_path, legacy):
    marker = tmp_path / "payload-was-run"
    payload = PAYLOADS["posix.system"](str(marker))
    if legacy:
        torch.save(payload, folder / CHECKPOINT, _use_new_zipfile_serialization=False)
    else:
        (folder / CHECKPOINT).write_bytes(pickle.dumps(payload))
    with pytest.raises(
        ModelError, match="is a bare pickle, as torch before 1.6 wrote them, which can't be read safely"
    ):
        load_model(folder)
    assert not marker.exists()


def test_a_pickle_with_an_archive_behind_it_is_not_run(folder, tmp_path):
    """For zipfile it is an archive, for torch a file of the old format."""
    marker = tmp_path / "payload-was-run"
    path = folder / CHECKPOINT
    content = path.read_bytes()
    for protocol, message in ((4, "is a bare pickle"), (0, "it is not a torch archive")):
        path.write_bytes(pickle.dumps(PAYLOADS["posix.system"](str(marker)), protocol) + content)
        with pytest.raises(ModelError, match=message):
            load_model(folder)
        assert not marker.exists()


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"], ids=["numpy-1", "numpy-2"])
def test_scalars_of_every_numpy_are_harmless(folder, module):
    def rename(records):
        (name,) = (name for name in records if name.endswith("/data.pkl"))
        assert b"numpy._core.multiarray\nscalar" in records[name]
        records[name] = records[name].replace(b"numpy._core.multiarray", module)

    expected = torch.load(folder / CHECKPOINT, weights_only=False)["network_weights"][WEIGHT]
    edit_records(folder / CHECKPOINT, rename)
    assert torch.equal(load_model(folder).network(0).state_dict()[WEIGHT], expected)


def test_nothing_stays_allowed_after_loading(folder):
    before = set(torch.serialization.get_safe_globals())  # torch keeps a set, in no order
    load_model(folder)
    assert set(torch.serialization.get_safe_globals()) == before


def record(records, ending):
    return next(name for name in records if name.endswith(ending))


def test_compressed_records_are_refused(folder):
    edit_records(folder / CHECKPOINT, lambda records: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="holds compressed records, which torch does not write"):
        load_model(folder)


@pytest.mark.parametrize(
    "change",
    [lambda record: record[:-4], lambda record: b"", lambda record: record + b"\0" * 64],
    ids=["shorter", "empty", "longer"],
)
def test_a_record_of_another_size_is_refused(folder, change):
    def resize(records):
        name = record(records, "/data/0")
        records[name] = change(records[name])

    edit_records(folder / CHECKPOINT, resize)
    with pytest.raises(ModelError, match="is damaged: its tensors do not have the sizes of its records"):
        load_model(folder)


def test_a_missing_record_is_refused(folder):
    edit_records(folder / CHECKPOINT, lambda records: records.pop(record(records, "/data/3")))
    with pytest.raises(ModelError, match="is damaged: "):
        load_model(folder)


def test_a_claim_of_more_data_than_the_file_has_is_refused(folder):
    path = folder / CHECKPOINT
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size)
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02", 0, content.rindex(entry.filename.encode()))  # its line in the directory
    content[place + 24 : place + 28] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ModelError, match="declares more data than it has"):
        load_model(folder)


def test_a_flipped_bit_in_a_weight_is_found(folder):
    path = folder / CHECKPOINT
    weight = torch.load(path, weights_only=False)["network_weights"][CONV]
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"is damaged: the checksum of \S+/data/\d+ is wrong; copy the file again"):
        load_model(folder)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99], ids="{:.0%}".format)
def test_a_truncated_checkpoint_is_refused(folder, share):
    content = (folder / CHECKPOINT).read_bytes()
    (folder / CHECKPOINT).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth is truncated or not a checkpoint"):
        load_model(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is truncated or not a checkpoint"),
        (b"\0" * 10_000, "is truncated or not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a git-lfs pointer, .*git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html></html>", "is a web page, not a checkpoint"),
        (b"<html><body>404</body></html>", "is a web page, not a checkpoint"),
    ],
    ids=["empty", "zeros", "lfs-pointer", "web-page", "html"],
)
def test_what_is_no_checkpoint_is_told_apart(folder, content, message):
    (folder / CHECKPOINT).write_bytes(content)
    with pytest.raises(ModelError, match=rf"checkpoint_final\.pth {message}"):
        load_model(folder)


def test_another_archive_is_no_checkpoint(folder):
    with zipfile.ZipFile(folder / CHECKPOINT, "w") as archive:
        archive.writestr("plans.json", "{}")
    with pytest.raises(ModelError, match="is damaged: "):
        load_model(folder)


def test_a_locked_archive_is_refused(folder):
    edit_records(folder / CHECKPOINT, lambda records: None)
    locked = b"PK\x03\x04\x14\x00\x01", b"PK\x01\x02\x14\x03\x14\x00\x01"  # a flag of the record and its entry
    for header in locked:
        spoil(folder / CHECKPOINT, header[:-1] + b"\0", header)
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth can't be read: .*encrypted"):
        load_model(folder)


def test_an_archive_with_a_name_that_is_no_text_is_refused(folder):
    edit_records(folder / CHECKPOINT, lambda records: records.update({"\xe9": b""}))
    spoil(folder / CHECKPOINT, "\xe9".encode(), b"\xff\xff")
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth can't be read: .*utf-8"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("network_weights"), "not a checkpoint of nnU-Net v2: it has no network_weights"),
        (lambda c: c.pop("trainer_name"), "does not say its configuration and trainer"),
        (lambda c: put(c, "trainer_name", 3), "does not say its configuration and trainer"),
        (lambda c: c.pop("init_args"), "does not say its configuration and trainer"),
        (lambda c: put(c, "init_args", []), "does not say its configuration and trainer"),
        (lambda c: put(c, "init_args.configuration", None), "does not say its configuration and trainer"),
        (lambda c: put(c, "network_weights", [1]), "network_weights must be named tensors"),
        (lambda c: put(c, "network_weights", {}), r"does not fit the network .*it has 0 weights"),
        (lambda c: put(c, "network_weights", {3: torch.zeros(1)}), "network_weights must be named tensors"),
        (lambda c: put(c, ("network_weights", WEIGHT), 1.0), "network_weights must be named tensors"),
        (
            lambda c: put(c, "inference_allowed_mirroring_axes", (0, 3)),
            r"must be axis numbers, found \(0, 3\)",
        ),
        (lambda c: put(c, "inference_allowed_mirroring_axes", "all"), "must be axis numbers, found 'all'"),
        (lambda c: put(c, "inference_allowed_mirroring_axes", [-1]), r"must be axis numbers, found \(-1,\)"),
        (lambda c: put(c, "inference_allowed_mirroring_axes", [True]), r"must be axis numbers, found \[True\]"),
    ],
    ids=[
        "no-weights", "no-trainer", "trainer-number", "no-arguments", "arguments-list", "no-configuration",
        "weights-list", "weights-empty", "weights-unnamed", "weight-number", "axis-3", "axes-text", "axis-negative",
        "axis-bool",
    ],
)  # fmt: skip
def test_a_checkpoint_of_wrong_content_is_refused(folder, change, message):
    edit_checkpoint(folder / CHECKPOINT, change)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize("content", [[], torch.zeros(3), {"state_dict": {}}], ids=["list", "tensor", "other-dict"])
def test_something_else_that_torch_saved_is_refused(folder, content):
    torch.save(content, folder / CHECKPOINT)
    with pytest.raises(ModelError, match="is not a checkpoint of nnU-Net v2: it has no network_weights"):
        load_model(folder)


def test_a_value_that_doubles_with_each_level_is_not_spelled_out(folder):
    axes = ["x"]
    for _ in range(60):
        axes = [axes, axes]
    edit_checkpoint(folder / CHECKPOINT, lambda content: put(content, "inference_allowed_mirroring_axes", axes))
    with pytest.raises(ModelError, match="must be axis numbers") as caught:
        load_model(folder)
    assert len(str(caught.value)) < 1000


def replaced(change):
    """A change of the last head's weights."""
    return lambda content: put(content, ("network_weights", WEIGHT), change(content["network_weights"][WEIGHT]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["network_weights"].pop(WEIGHT), f"{WEIGHT} is missing$"),
        (lambda c: put(c, ("network_weights", "extra"), torch.zeros(1)), "extra is not part of it$"),
        (
            replaced(lambda t: t[:2]),
            rf"{WEIGHT} is float \(2, 4, 1, 1, 1\), not float \(3, 4, 1, 1, 1\)$",
        ),
        (replaced(lambda t: t.long()), rf"{WEIGHT} is int \(3, 4, 1, 1, 1\), not float"),
        (
            lambda c: put(c, "network_weights", {f"other.{k}": v for k, v in c["network_weights"].items()}),
            r"decoder\S+ is missing; decoder\S+ is missing; decoder\S+ is missing and \d+ more$",
        ),
    ],
    ids=["missing", "extra", "shape", "integers", "all-renamed"],
)
def test_weights_of_another_network_are_refused_by_name(folder, change, message):
    edit_checkpoint(folder / CHECKPOINT, change)
    with pytest.raises(ModelError, match=f"does not fit the network of its plans: {message}"):
        load_model(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.to(torch.complex64),
        lambda t: t.bool(),
        lambda t: t.to(torch.float8_e4m3fn),
        lambda t: t.to_sparse(),
        lambda t: t.to("meta"),
        lambda t: torch.zeros(1).expand(t.shape),
        lambda t: torch.zeros(1).expand(8192, 8192, 31, 31, 31),
        lambda t: torch.nested.nested_tensor([t[0], t[1]]),
    ],
    ids=["complex", "bool", "float8", "sparse", "meta", "expanded", "expanded-far", "nested"],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_tensors_of_other_kinds_are_refused(folder, change):
    edit_checkpoint(folder / CHECKPOINT, replaced(change))
    with pytest.raises(ModelError, match=f"must be dense tensors of real numbers, {WEIGHT} is not"):
        load_model(folder)


def test_weights_that_share_their_bytes_are_refused(folder):
    """A small file would become a network that fills the memory."""

    def share(content):
        weights = content["network_weights"]
        everything = torch.zeros(max(tensor.numel() for tensor in weights.values()))
        content["network_weights"] = {
            name: everything[: tensor.numel()].view(tensor.shape) for name, tensor in weights.items()
        }
        content |= {"logging": {}}

    edit_checkpoint(folder / CHECKPOINT, share)
    edit_records(folder / CHECKPOINT, lambda records: None)  # without torch's padding
    with pytest.raises(ModelError, match="is smaller than the weights it declares"):
        load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["single", "half"])
def test_a_weight_that_is_no_number_is_refused_when_it_is_used(folder, value, dtype):
    def spoil(tensor):
        tensor = tensor.to(dtype)
        tensor[1, 2] = value
        return tensor

    edit_checkpoint(folder / CHECKPOINT, replaced(spoil))
    model = load_model(folder)
    with pytest.raises(ModelError, match=f"weight {WEIGHT} is not finite; the training may have diverged"):
        model.network(0)


def test_a_double_that_single_precision_cannot_hold_is_refused(folder):
    edit_checkpoint(folder / CHECKPOINT, replaced(lambda tensor: tensor.double() * 1e300))
    with pytest.raises(ModelError, match=f"weight {WEIGHT} is not finite"):
        load_model(folder).network(0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_another_precision_become_single(folder, dtype):
    expected = torch.load(folder / CHECKPOINT, weights_only=False)["network_weights"][WEIGHT].to(dtype).float()
    edit_checkpoint(folder / CHECKPOINT, replaced(lambda tensor: tensor.to(dtype)))
    found = load_model(folder).network(0).state_dict()[WEIGHT]
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrapped_networks_are_taken_off(folder, prefix):
    expected = torch.load(folder / CHECKPOINT, weights_only=False)["network_weights"][WEIGHT]

    def wrap(content):
        content["network_weights"] = {f"{prefix}{k}": v for k, v in content["network_weights"].items()}

    edit_checkpoint(folder / CHECKPOINT, wrap)
    assert torch.equal(load_model(folder).network(0).state_dict()[WEIGHT], expected)


def test_mirroring_may_be_left_out(folder):
    edit_checkpoint(folder / CHECKPOINT, lambda content: content.pop("inference_allowed_mirroring_axes"))
    assert load_model(folder).mirror_axes == ()


def test_mirroring_axes_are_sorted_and_unique(folder):
    axes = [2, 0, 2]
    edit_checkpoint(folder / CHECKPOINT, lambda content: put(content, "inference_allowed_mirroring_axes", axes))
    assert load_model(folder).mirror_axes == (0, 2)


def test_networks_are_ready_for_inference(folder):
    network = load_model(folder).network(0)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"cpu"}


def test_one_damaged_fold_is_named(folder):
    second = folder / "fold_1" / "checkpoint_final.pth"
    second.parent.mkdir()
    second.write_bytes((folder / CHECKPOINT).read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"fold_1/checkpoint_final\.pth is truncated"):
        load_model(folder)
    assert load_model(folder, folds=[0]).folds == ("0",)


@settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3))
def test_any_change_of_the_index_loads_or_is_refused(original, folder, changes):
    def spoil_index(records):
        name = record(records, "/data.pkl")
        index = bytearray(records[name])
        for share, value in changes:
            index[int(share * len(index))] = value
        records[name] = bytes(index)

    shutil.copy(original / CHECKPOINT, folder / CHECKPOINT)
    edit_records(folder / CHECKPOINT, spoil_index)
    try:
        load_model(folder).network(0)
    except ModelError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message
    assert "weights_only" not in message  # torch's advice to read it unsafely
    message.encode()
