import json
from pathlib import Path

import pytest

from napari_nnunet_cpu.json_cache import file_sha256, hash_of, recall, remember

KEY = hash_of({"network": 1})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_remembered_is_recalled() -> None:
    assert recall("numbers", KEY) is None
    remember("numbers", KEY, {"torch": 1.5, "folds": [0, 1]})
    assert recall("numbers", KEY) == {"torch": 1.5, "folds": [0, 1]}
    assert recall("words", KEY) is None
    remember("numbers", KEY, {"torch": 2})
    assert recall("numbers", KEY) == {"torch": 2}


def test_nothing_else_is_left_in_the_folder(cache: Path) -> None:
    remember("numbers", KEY, {"torch": 1})
    assert [json.loads(path.read_text()) for path in cache.rglob("*.*")] == [{"torch": 1}]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"3"])
def test_a_damaged_document_is_none(cache: Path, content: bytes) -> None:
    remember("numbers", KEY, {"torch": 1})
    next(cache.rglob("*.json")).write_bytes(content)
    assert recall("numbers", KEY) is None
    remember("numbers", KEY, {"torch": 2})
    assert recall("numbers", KEY) == {"torch": 2}


def test_where_nothing_can_be_written(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    remember("numbers", KEY, {"torch": 1})
    assert recall("numbers", KEY) is None
    assert cache.is_file()


def test_the_order_does_not_matter_to_the_hash() -> None:
    assert hash_of({"a": 1, "b": [1, 2]}) == hash_of({"b": [1, 2], "a": 1}) != hash_of({"a": 1, "b": [2, 1]})


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (file_sha256(tmp_path / name) for name in "abc")
    assert a == b != c
