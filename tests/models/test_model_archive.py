import json
import os
import shutil
import stat
import zipfile

import pytest
from model_files import spoil, zip_model

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError

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
        "..",
        "/plans.json",
        "/tmp/napari-nnunet-cpu/plans.json",
        "//host/share/plans.json",
        "C:/plans.json",
        "C:plans.json",
        "..\\plans.json",
        "\\\\host\\plans.json",
        f"{MODEL}/plans.json:stream",
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


def test_a_name_with_an_end_in_it_is_refused(export):
    add(export, "a/evil#plans.json")
    spoil(export, b"evil#", b"evil\0", every=True)
    with pytest.raises(ModelError, match=r"holds the path 'a/evil\\x00plans\.json', which leaves its folder"):
        load_model(export)


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
@pytest.mark.parametrize("name", ["plans.json", "PLANS.JSON", "./plans.json", "/plans.json"], ids=repr)
def test_a_file_given_twice_is_refused(export, name):
    add(export, f"{MODEL}/{name}")
    with pytest.raises(ModelError, match=r"holds '\S+' twice; it was refused"):
        load_model(export)


def test_a_file_below_a_file_is_refused(export, tmp_path, cache):
    add(export, f"{MODEL}/plans.json/plans.json")
    with pytest.raises(ModelError, match=r"can't be unpacked: "):
        load_model(export)
    assert os.listdir(cache / "models") == []


@pytest.mark.parametrize("name", [f"{MODEL}/fold_0/checkpoint_best.pth", "readme.txt"], ids=["needed", "not-needed"])
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
            archive.writestr(str(number), b"")
    with pytest.raises(ModelError, match=r"holds 100\d\d entries; it was refused"):
        load_model(export)


def test_a_full_disk_is_known_before(export, cache, monkeypatch):
    usage = shutil.disk_usage(export.parent)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ModelError, match=r"needs \d+ MB unpacked, \S+/cache/models has 0 MB left"):
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


def test_only_what_inference_needs_is_unpacked(export):
    others = ["fold_0/progress.png", "fold_0/validation/summary.json", "dataset_fingerprint.json", "evil.py",
              "fold_0/debug.json", "crossval_results_folds_0/postprocessing.pkl"]  # fmt: skip
    for name in others:
        add(export, f"{MODEL}/{name}")
    add(export, f"__MACOSX/{MODEL}/._plans.json")
    model = load_model(export)
    files = [name for name in everything_below(model.folder) if (model.folder / name).is_file()]
    assert files == ["dataset.json", "fold_0/checkpoint_final.pth", "plans.json"]


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
    with pytest.raises(ModelError, match="holds 2 models; choose one: Dataset999_Random/nnUNetTrainer__nnUNetPlans__"):
        load_model(path)
    assert load_model(path, configuration="3d_fullres").folder.name.endswith("__3d_fullres")
