import io
import json
import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import spoil, zip_model
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models import available_models, members_of, read_postprocessing

pytestmark = pytest.mark.slow

MODEL = "Dataset999_Random/nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.fixture
def export(folder):
    """An exported model; its folder is gone."""
    path = zip_model(folder, folder.parent.parent / "export.zip")
    shutil.rmtree(folder.parent)
    return path


def add(path, name, content=b"{}", **attributes):
    """Add an entry by the name given, which zipfile would clean up."""
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo("x")
        entry.filename = name
        for attribute, value in attributes.items():
            setattr(entry, attribute, value)
        archive.writestr(entry, content)


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    "name",
    [
        "../plans.json",
        "../../etc/plans.json",
        f"{MODEL}/../../../plans.json",
        "/plans.json",
        "/tmp/napari-nnunet-cpu/plans.json",
        "//host/share/plans.json",
        "C:/plans.json",
        "C:\\plans.json",
        "..\\plans.json",
        "a\\..\\..\\fold_0\\checkpoint_final.pth",
        "\\\\host\\plans.json",
        "a\0b/plans.json",
        "../nnUNetPlans.json",
        "__MACOSX2/../dataset.json",
    ],
)
def test_a_path_that_leaves_its_folder_is_refused_by_name(export, tmp_path, cache, name):
    add(export, name)
    before = everything_below(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_model(export)
    assert str(caught.value) == f"{export} holds the path {name!r}, which leaves its folder; it was refused"
    assert everything_below(tmp_path) == before
    assert not cache.exists()


def test_a_name_that_is_no_text_is_refused(export):
    add(export, "\xe9/plans.json")
    spoil(export, "\xe9/plans.json".encode(), b"\xff\xff/plans.json", every=True)
    with pytest.raises(ModelError, match="can't be unpacked: 'utf-8' codec can't decode"):
        load_model(export)


def test_a_link_is_refused(export, tmp_path):
    add(export, f"{MODEL}/fold_0/checkpoint_link.pth", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16)
    with pytest.raises(ModelError, match=r"holds a link \('\S+checkpoint_link\.pth'\); it was refused"):
        load_model(export)
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("place", [f"{MODEL}/", f"{MODEL.upper()}/", f"{MODEL}/./", f"{MODEL}//", f"{MODEL}\\"])
def test_a_file_given_twice_is_refused(export, place):
    add(export, f"{place}plans.json")
    with pytest.raises(ModelError, match=r"holds '\S+' twice; it was refused"):
        load_model(export)


def test_a_file_below_a_file_is_refused(export, tmp_path, cache):
    add(export, f"{MODEL}/plans.json/plans.json")
    with pytest.raises(ModelError, match=r"can't be unpacked: "):
        load_model(export)
    assert os.listdir(cache / "models") == []


@pytest.mark.parametrize("name", [f"{MODEL}/fold_0/checkpoint_best.pth", "nnUNetPlans.json"])
def test_a_bomb_is_refused(export, cache, name):
    with zipfile.ZipFile(export, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(name, bytes(20_000_000))
    assert export.stat().st_size < 200_000
    with pytest.raises(ModelError, match=rf"'{name}' grows 200-fold or more when unpacked; it was refused"):
        load_model(export)
    assert not cache.exists()


def test_entries_that_share_their_bytes_are_refused(export, cache):
    """A bomb without compression: many entries, one content."""
    with zipfile.ZipFile(export, "a") as archive:
        archive.writestr("a/fold_0/checkpoint_final.pth", os.urandom(100_000))
        first = archive.filelist[-1]
        for number in range(1, 100):
            again = zipfile.ZipInfo(f"a/fold_{number}/checkpoint_final.pth")
            again.header_offset, again.CRC = first.header_offset, first.CRC
            again.file_size, again.compress_size = first.file_size, first.compress_size
            archive.filelist.append(again)
    with pytest.raises(ModelError, match="holds entries that overlap; it was refused"):
        load_model(export)
    assert not cache.exists()


def test_too_many_entries_are_refused(export):
    with zipfile.ZipFile(export, "a") as archive:
        for number in range(10_000):
            archive.writestr(f"{number}/plans.json", b"")
    with pytest.raises(ModelError, match=r"holds 100\d\d plans and checkpoints; it was refused"):
        load_model(export)


def test_a_full_disk_is_known_before(export, cache, monkeypatch):
    usage = shutil.disk_usage(export.parent)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(
        ModelError, match=r"needs \d+ MB unpacked, and the disk of the cache has 0 MB left; free some, or"
    ):
        load_model(export)
    assert os.listdir(cache / "models") == []


@pytest.mark.parametrize(
    "names", [[], ["readme.txt"], ["a/plans.txt", "a/fold_0/weights.pth"]], ids=["empty", "other", "nearly"]
)
def test_an_archive_without_a_model(tmp_path, cache, names):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"hello")
    with pytest.raises(ModelError, match="holds no nnU-Net v2 model: no plans.json, dataset.json or checkpoint in it"):
        load_model(path)
    assert not cache.exists()


def test_an_archive_with_half_a_model(tmp_path):
    path = tmp_path / "half.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{MODEL}/plans.json", json.dumps({}))
    with pytest.raises(ModelError, match=r"is not an nnU-Net v2 model: plans\.json and dataset\.json missing"):
        load_model(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"\0" * 1000, b"<!DOCTYPE html>", b"PK\5\6" + bytes(18)[:-1]], ids=range(5)
)
def test_what_is_no_archive(tmp_path, content):
    path = tmp_path / "export.zip"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"export\.zip can't be unpacked: File is not a zip file"):
        load_model(path)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.99], ids="{:.0%}".format)
def test_a_truncated_archive(export, share):
    content = export.read_bytes()
    export.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"export\.zip can't be unpacked"):
        load_model(export)


def test_a_flipped_bit_leaves_nothing_behind(export, cache):
    with zipfile.ZipFile(export) as archive:
        entry = archive.getinfo(f"{MODEL}/fold_0/checkpoint_final.pth")
    content = bytearray(export.read_bytes())
    content[entry.header_offset + 2000] ^= 255
    export.write_bytes(content)
    with pytest.raises(ModelError, match=r"export\.zip can't be unpacked: (Bad CRC-32|Error -3)"):
        load_model(export)
    assert os.listdir(cache / "models") == []


def test_a_locked_archive(export):
    spoil(export, b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1", every=True)
    spoil(export, b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1", every=True)
    with pytest.raises(ModelError, match="can't be unpacked: .*encrypted"):
        load_model(export)


def unpacked(cache):
    """Every file in the cache of archives, without the folders of their hash and name."""
    return sorted(
        str(Path(*path.relative_to(cache / "models").parts[2:]))
        for path in cache.rglob("*")
        if path.is_file() and path.is_relative_to(cache / "models")
    )


WHOLE = [f"{MODEL}/{name}" for name in ("dataset.json", "fold_0/checkpoint_final.pth", "plans.json")]


def test_only_what_inference_needs_is_unpacked(export, cache):
    others = ["fold_0/progress.png", "fold_0/validation/summary.json", "dataset_fingerprint.json", "evil.py",
              "fold_0/debug.json", "crossval_results_folds_0/postprocessing.pkl", "fold_0/log.txt"]  # fmt: skip
    for name in others:
        add(export, f"{MODEL}/{name}")
    for name in ("._plans.json", "plans.json", "fold_0/._checkpoint_final.pth", "fold_0/checkpoint_final.pth"):
        add(export, f"__MACOSX/{MODEL}/{name}")
    load_model(export)
    assert unpacked(cache) == WHOLE


HARMLESS = {
    "a blank volume": lambda path: add(path, f"{MODEL}/fold_0/validation/case.nii", bytes(5_000_000)),
    "a link": lambda path: add(path, "latest", b"/etc", external_attr=(stat.S_IFLNK | 0o777) << 16),
    "another case": lambda path: add(path, f"{MODEL}/PLANS.JSON"),
    "a log twice": lambda path: [add(path, name) for name in ("log.txt", "LOG.txt", "log.txt")],
    "a locked file": lambda path: lock(path, "#notes.txt"),
    "many files": lambda path: [add_many(path, 10_001)],
    "a way out": lambda path: add(path, "../../notes.txt"),
    "a way to the top": lambda path: add(path, "/etc/passwd"),
    "the folder above": lambda path: add(path, ".."),
    "a drive": lambda path: add(path, "C:plans.json"),
    "a stream": lambda path: add(path, f"{MODEL}/plans.json:stream"),
    "a time": lambda path: add(path, f"{MODEL}/fold_0/training_log_2024-05-01T12:30:00.txt"),
    "backslashes": lambda path: add(path, f"{MODEL}\\fold_0\\validation\\case.nii.gz"),
    "an end in the name": lambda path: add(path, "a/evil\0plans.json"),
    "a file below a file": lambda path: add(path, f"{MODEL}/plans.json/notes.txt"),
}


def lock(path, name):
    """Add an entry that needs a password."""
    add(path, name)
    content = bytearray(path.read_bytes())
    for header, flags, text in ((b"PK\3\4", 6, 30), (b"PK\1\2", 8, 46)):
        place = next(
            place
            for place in range(len(content))
            if content[place : place + 4] == header and content[place + text :].startswith(name.encode())
        )
        content[place + flags] |= 1
    path.write_bytes(content)


def add_many(path, count):
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(count):
            archive.writestr(str(number), b"")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", HARMLESS)
def test_what_is_never_unpacked_does_no_harm(export, cache, kind):
    HARMLESS[kind](export)
    assert load_model(export).folds == ("0",)
    assert unpacked(cache) == WHOLE


@settings(max_examples=50)
@given(
    name=st.text(st.sampled_from("ab./\\:\0* \n\xe9"), min_size=1), content=st.sampled_from([b"", b"x", bytes(100_000)])
)
def test_no_other_name_does_harm(original, tmp_path_factory, name, content):
    folder = tmp_path_factory.mktemp("export")
    path = zip_model(original, folder / "export.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo("x")
        entry.filename, entry.compress_type = name, zipfile.ZIP_DEFLATED
        archive.writestr(entry, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_NNUNET_CPU_CACHE", str(folder / "cache"))
        assert load_model(path).folds == ("0",)
    assert unpacked(folder / "cache") == WHOLE
    assert sorted(path.name for path in folder.iterdir()) == ["cache", "export.zip"]


def renamed(path, change):
    """The archive with other names of its entries, written as they are."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    path.unlink()
    for name, content in contents.items():
        add(path, change(name), content)
    return path


LAYOUTS = {
    "as exported": lambda name: name,
    "one folder around": lambda name: f"download/{name}",
    "folders around": lambda name: f"a/b.zip/c d/nnUNet_results/{name}",
    "backslashes": lambda name: name.replace("/", "\\"),
    "folders around with backslashes": lambda name: f"results\\v2\\{name}".replace("/", "\\"),
    "colons": lambda name: f"Task: liver/10:30/{name}",
    "a dot in front": lambda name: f"./{name}",
    "without the Dataset folder": lambda name: name.split("/", 1)[1],
    "without any folder": lambda name: name.split("/", 2)[2],
    "flat": lambda name: name.rpartition("/")[2].replace("plans", "nnUNetPlans"),
    "flat in folders": lambda name: "a/b/c/" + name.rpartition("/")[2].replace("plans", "nnUNetResEncUNetLPlans"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_understood(export, cache, layout, original):
    model = load_model(renamed(export, LAYOUTS[layout]))
    expected = load_model(original)
    assert (model.folds, model.checkpoint_sha256) == (("0",), expected.checkpoint_sha256)
    assert model.configuration == expected.configuration
    assert model.source.is_relative_to(export)
    assert load_model(model.source) == model
    assert available_models(export) == (model.source,)
    assert not any(sign in name for name in unpacked(cache) for sign in '\\:*?"<>|')  # Windows has no such names


def test_a_path_in_an_archive_is_a_model(export):
    model = load_model(export)
    assert str(model.source) == model.describe()["folder"] == f"{export}/{MODEL}"
    for place in (MODEL, MODEL.split("/")[0], f"{MODEL}/fold_0", f"{MODEL}/fold_0/checkpoint_final.pth"):
        assert load_model(export / place) == model


def rewritten(path, name, change):
    """The archive with the content of one file changed."""
    with zipfile.ZipFile(path) as archive:
        contents = {entry: archive.read(entry) for entry in archive.namelist() if not entry.endswith("/")}
    contents[name] = change(contents[name])
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in contents.items():
            archive.writestr(entry, content)


def not_finite(content):
    checkpoint = torch.load(io.BytesIO(content), weights_only=False)
    next(iter(checkpoint["network_weights"].values()))[0] = float("nan")
    saved = io.BytesIO()
    torch.save(checkpoint, saved)
    return saved.getvalue()


FAULTS = {
    "plans": (lambda path: rewritten(path, WHOLE[2], lambda _: b"{}"), WHOLE[2], lambda path: load_model(path)),
    "dataset": (lambda path: rewritten(path, WHOLE[0], lambda _: b"["), WHOLE[0], lambda path: load_model(path)),
    "checkpoint": (lambda path: rewritten(path, WHOLE[1], lambda c: c[:99]), WHOLE[1], lambda path: load_model(path)),
    "weights": (lambda path: rewritten(path, WHOLE[1], not_finite), WHOLE[1], lambda path: load_model(path).network(0)),
    "fold": (lambda _: None, f"{MODEL} has no fold_3", lambda path: load_model(path, folds=[3])),
    "name": (lambda _: None, f"{MODEL} has no best.pth", lambda path: load_model(path, checkpoint="best.pth")),
    "path": (lambda _: None, "fold_9 does not exist", lambda path: load_model(path / "fold_9")),
    "postprocessing": (
        lambda _: None, f"{MODEL} has no postprocessing.json", lambda path: read_postprocessing([load_model(path)]),
    ),
    "ensemble": (
        lambda path: RandomModel(channels=("MR",)).write(path.with_name("other")),
        f"{MODEL} and ",
        lambda path: members_of([load_model(path), load_model(path.with_name("other"))]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_messages_name_the_archive_and_the_path_in_it(export, cache, kind):
    spoil_it, place, use = FAULTS[kind]
    spoil_it(export)
    with pytest.raises(ModelError) as caught:
        use(export)
    assert f"{export}/{place}" in str(caught.value)
    assert str(cache) not in str(caught.value)


def test_an_archive_of_the_model_folder_itself(folder):
    path = folder.parent.parent / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
            archive.write(folder / name, name)
    assert load_model(path).folds == ("0",)


def test_an_archive_of_two_models_needs_a_configuration(folder):
    shutil.copytree(folder, folder.with_name("nnUNetTrainer__nnUNetPlans__2d"))
    path = zip_model(folder.parent / "nnUNetTrainer__nnUNetPlans__2d", folder.parent.parent / "two.zip")
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
            archive.write(folder / name, f"{MODEL}/{name}")
    message = r"two\.zip holds 2 models; choose one: Dataset999_Random/nnUNetTrainer__nnUNetPlans__"
    with pytest.raises(ModelError, match=message):
        load_model(path)
    assert load_model(path, configuration="3d_fullres").folder.name.endswith("__3d_fullres")
