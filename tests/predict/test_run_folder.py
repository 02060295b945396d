"""The file of a run: what is read is one of the states that were saved, or nothing."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.predict.resume.run_file import RunFile
from napari_nnunet_cpu.predict.resume.saved_runs import saved_runs

pytestmark = pytest.mark.slow

IDENTITY = {"image": "a", "step": 0.5}
ABOUT = {"image": "knee", "shape": [4, 5, 6], "model": "M 3d", "weights_sha256": "ab", "tiles": 9}
BOX = Box((0, 2), (1, 3), (0, 4))
OTHER = Box((2, 3), (1, 3), (0, 4))
DAY = 24 * 3600


def sums_of(value: float, box: Box = BOX, heads: int = 2) -> np.ndarray:
    shape = [stop - start for start, stop in box]
    return (value + np.arange((heads + 1) * np.prod(shape))).astype(np.float32).reshape(heads + 1, *shape)


def labels_of(value: int, box: Box = BOX) -> np.ndarray:
    return sums_of(value, box, 0)[0].astype(np.uint8)


State = tuple[set[int], dict[Box, Any], dict[Box, Any]]


def state_of(file: RunFile) -> State:
    """What is saved in the file, as values that can be compared."""
    labels = {box: (array.dtype.str, array.tolist()) for box, array in file.labels()}
    return set(file.tiles), labels, {box: array.tolist() for box, array in file.sums()}


def reopened(folder: Path) -> State:
    file = RunFile(folder, IDENTITY)
    assert file.problem is None
    found = state_of(file)
    file.close()
    return found


def written(folder: Path) -> RunFile:
    """A file with a tile, labels and sums, closed."""
    file = RunFile(folder, IDENTITY)
    assert file.save([3], [(OTHER, labels_of(1, OTHER))], [(BOX, sums_of(5))], [])
    file.close()
    return file


NOTHING: State = (set(), {}, {})
WRITTEN: State = ({3}, {OTHER: ("|u1", labels_of(1, OTHER).tolist())}, {BOX: sums_of(5).tolist()})

edges = st.tuples(st.integers(0, 3), st.integers(1, 3)).map(lambda pair: (pair[0], sum(pair)))
some_boxes = st.builds(Box, edges, edges, edges)
saves = st.tuples(
    st.sets(st.integers(0, 20)),
    st.dictionaries(some_boxes, st.tuples(st.integers(0, 99), st.sampled_from(["|u1", "<u2"]))),
    st.dictionaries(some_boxes, st.integers(0, 99)),
    st.sets(some_boxes),
)


@given(st.lists(saves, max_size=4), st.booleans())
def test_what_is_read_is_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], reopen: bool
) -> None:
    """Against dicts: later sums in place of earlier ones, blocks that are gone, and of that all or nothing."""
    folder = tmp_path_factory.mktemp("runs")
    file = RunFile(folder, IDENTITY)
    tiles: set[int] = set()
    labels: dict[Box, Any] = {}
    sums: dict[Box, Any] = {}
    for new_tiles, new_labels, new_sums, gone in steps:
        arrays = {box: labels_of(value, box).astype(dtype) for box, (value, dtype) in new_labels.items()}
        blocks = {box: sums_of(value, box) for box, value in new_sums.items()}
        assert file.save(new_tiles, arrays.items(), blocks.items(), gone)
        tiles |= new_tiles
        labels |= {box: (array.dtype.str, array.tolist()) for box, array in arrays.items()}
        sums |= {box: block.tolist() for box, block in blocks.items()}
        sums = {box: block for box, block in sums.items() if box not in gone}
        if reopen:
            file.close()
            file = RunFile(folder, IDENTITY)
            assert file.problem is None
    file.close()
    found = reopened(folder)
    assert found == (tiles, labels, sums)
    assert list(found[2]) == sorted(sums)


def test_views_of_any_strides_and_orders_are_saved(tmp_path: Path) -> None:
    file = RunFile(tmp_path, IDENTITY)
    box = Box((0, 4), (0, 3), (0, 2))
    labels = np.arange(24, dtype=np.uint16).reshape(2, 3, 4).transpose(2, 1, 0)
    sums = np.arange(2 * 24, dtype=np.float64).reshape(4, 3, 2, 2).transpose(3, 0, 1, 2)[:, ::-1]
    file.save([0], [(box, labels)], [(box, sums)], [])
    file.close()
    assert reopened(tmp_path) == ({0}, {box: ("<u2", labels.tolist())}, {box: sums.tolist()})


@pytest.mark.parametrize("place", ["tiles", "labels", "sums", "gone"])
def test_a_save_that_is_interrupted_is_taken_back(tmp_path: Path, place: str) -> None:
    file = RunFile(tmp_path, IDENTITY)
    file.save([3], [(OTHER, labels_of(1, OTHER))], [(BOX, sums_of(5))], [])

    def broken(*values: Any) -> Iterator[Any]:
        yield from values
        raise KeyError("lost")

    parts = {"tiles": [4], "labels": [(BOX, labels_of(2))], "sums": [(BOX, sums_of(6))], "gone": [BOX]}
    with pytest.raises(KeyError):
        file.save(**(parts | {place: broken(*parts[place])}))
    assert file.problem is None
    assert file.save([5], [], [], [])  # and goes on
    file.close()
    assert reopened(tmp_path) == ({3, 5}, *WRITTEN[1:])


def test_what_was_saved_may_be_discarded(tmp_path: Path) -> None:
    written(tmp_path)
    file = RunFile(tmp_path, IDENTITY)
    assert file.has_labels
    file.discard()
    assert not file.has_labels
    assert not file.tiles
    file.save([7], [], [], [])
    file.close()
    assert reopened(tmp_path) == ({7}, {}, {})


def test_a_finished_or_empty_run_leaves_nothing(tmp_path: Path) -> None:
    RunFile(tmp_path, IDENTITY).close()
    assert list(tmp_path.iterdir()) == []
    written(tmp_path)
    file = RunFile(tmp_path, IDENTITY)
    file.remove()
    assert list(tmp_path.iterdir()) == []
    assert not file.save([1], [], [], [])
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_runs_that_differ_have_files_of_their_own(tmp_path: Path) -> None:
    written(tmp_path)
    other = RunFile(tmp_path, IDENTITY | {"step": 0.4})
    assert state_of(other) == NOTHING
    other.save([1], [], [], [])
    other.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert reopened(tmp_path) == WRITTEN


def damage_of(kind: str, path: Path) -> None:
    content = path.read_bytes()
    if kind in ("version", "table"):
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99" if kind == "version" else "DROP TABLE run")
        database.close()
    elif kind == "foreign":
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE run (identity TEXT)")
        database.close()
    elif kind == "other run":
        other = RunFile(path.parent, {"image": "b"})
        other.save([8], [], [], [])
        other.close()
        other.path.rename(path)
    else:
        path.write_bytes({"text": b"no database", "truncated": content[: len(content) // 2]}[kind])


@pytest.mark.parametrize("kind", ["text", "truncated", "version", "table", "foreign", "other run"])
def test_a_file_of_no_use_is_begun_anew(tmp_path: Path, kind: str) -> None:
    damage_of(kind, written(tmp_path).path)
    file = RunFile(tmp_path, IDENTITY)
    assert file.problem is None
    assert state_of(file) == NOTHING
    assert file.save([4], [], [], [])
    file.close()
    assert reopened(tmp_path) == ({4}, {}, {})


def test_no_changed_byte_of_what_was_saved_is_believed(tmp_path: Path) -> None:
    """Wherever it is: the file is begun anew, or the byte is none that is read."""
    path = written(tmp_path).path
    content = path.read_bytes()
    places = random.Random(0).sample([place for place, byte in enumerate(content) if byte], 60) + [
        content.index(sums_of(5)[0].tobytes()) + 9
    ]
    anew = 0
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        found = reopened(tmp_path)
        assert found in (NOTHING, WRITTEN)
        anew += found == NOTHING
    assert found == NOTHING
    assert anew > 30


def test_pages_of_different_saves_are_not_mixed(tmp_path: Path) -> None:
    """As the end of the machine may leave them: each page is whole, but some are of the save before."""
    box = Box((0, 16), (0, 16), (0, 16))
    file = RunFile(tmp_path, IDENTITY)
    states = []
    for number in (1, 2):
        file.save([number], [], [(box, sums_of(number, box))], [])
        states.append(bytearray(file.path.read_bytes()))
    file.close()
    assert len(states[0]) == len(states[1])
    both = [({1}, {}, {box: sums_of(1, box).tolist()}), ({1, 2}, {}, {box: sums_of(2, box).tolist()})]
    different = [
        page
        for page in range(0, len(states[0]), 4096)
        if states[0][page : page + 4096] != states[1][page : page + 4096]
    ]
    assert len(different) > 3
    for page in different:
        mixed = bytearray(states[1])
        mixed[page : page + 4096] = states[0][page : page + 4096]
        file.path.write_bytes(mixed)
        assert reopened(tmp_path) in (NOTHING, *both)


def test_a_second_run_of_the_same_is_not_saved(tmp_path: Path) -> None:
    first = RunFile(tmp_path, IDENTITY)
    first.save([3], [(OTHER, labels_of(1, OTHER))], [(BOX, sums_of(5))], [])
    second = RunFile(tmp_path, IDENTITY)
    assert second.problem == (
        f"the run is not saved in {tmp_path}: another process computes and saves the same run; "
        "it continues, but can't be resumed later"
    )
    assert state_of(second) == NOTHING
    assert not second.save([9], [], [], [])
    second.remove()
    first.close()
    assert reopened(tmp_path) == WRITTEN


IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
from napari_nnunet_cpu.predict.resume.run_file import RunFile
file = RunFile(Path(sys.argv[1]), {"image": "a", "step": 0.5})
print(json.dumps([file.problem, sorted(file.tiles)]))
file.remove()
"""


def test_another_process_is_kept_out(tmp_path: Path) -> None:
    first = RunFile(tmp_path, IDENTITY)
    first.save([3], [(OTHER, labels_of(1, OTHER))], [(BOX, sums_of(5))], [])
    other = subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, tmp_path], capture_output=True, check=True)
    assert b"another process computes" in other.stdout
    first.close()
    assert reopened(tmp_path) == WRITTEN
    other = subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, tmp_path], capture_output=True, check=True)
    assert other.stdout.strip() == b"[null, [3]]"
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_dropped_locks_no_one_out(tmp_path: Path) -> None:
    file = RunFile(tmp_path, IDENTITY)
    file.save([3], [], [], [])
    del file
    assert reopened(tmp_path) == ({3}, {}, {})


def test_where_there_is_no_folder_to_be_had_nothing_is_saved(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = RunFile(tmp_path / "file" / "runs", IDENTITY)
    assert file.problem is not None
    assert not file.save([1], [], [], [])
    file.remove()
    (tmp_path / "runs").mkdir()
    file = RunFile(tmp_path / "runs", IDENTITY)
    file.close()
    file.path.mkdir()
    assert "unable to open database file" in str(RunFile(tmp_path / "runs", IDENTITY).problem)


def test_a_read_only_file_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path).path
    content = path.read_bytes()
    connect = sqlite3.connect
    uri = f"{path.as_uri()}?mode=ro"  # root may write what is read-only
    monkeypatch.setattr(sqlite3, "connect", lambda _, **options: connect(uri, uri=True, **options))
    file = RunFile(tmp_path, IDENTITY)
    assert file.save([4], [], [], []) is False
    assert "readonly database" in str(file.problem)
    file.close()
    assert path.read_bytes() == content


def test_a_full_disk_ends_the_saving_and_leaves_the_last_save(tmp_path: Path) -> None:
    file = RunFile(tmp_path, IDENTITY)
    file.save([3], [(OTHER, labels_of(1, OTHER))], [(BOX, sums_of(5))], [])
    large = Box((0, 64), (0, 64), (0, 8))
    assert file._database is not None
    file._database.execute("PRAGMA max_page_count = 20")
    assert not file.save([4], [(BOX, labels_of(2))], [(BOX, sums_of(6)), (large, sums_of(7, large))], [])
    assert file.problem == (
        f"the run is not saved in {tmp_path}: database or disk is full; it continues, but can't be resumed later"
    )
    assert not file.save([5], [], [], [])
    file.close()
    assert reopened(tmp_path) == WRITTEN
    file = RunFile(tmp_path, IDENTITY)
    assert file._database is not None
    file._database.execute("PRAGMA max_page_count = 20")
    file.save([4], [], [(large, sums_of(7, large))], [])
    file.remove()  # the run came to its end without being saved
    assert list(tmp_path.iterdir()) == []


def test_want_of_memory_ends_the_saving_only(tmp_path: Path) -> None:
    file = RunFile(tmp_path, IDENTITY)

    def too_large() -> Iterator[Any]:
        raise MemoryError
        yield

    assert not file.save([1], [], too_large(), [])
    assert "MemoryError" in str(file.problem)


def saved_by_number(number: int) -> tuple[Any, ...]:
    """The `number`-th save: a tile, labels of their own, and sums of which some are replaced and others gone."""
    box = Box((number, number + 1), (0, 8), (0, 8))
    block = Box((number, number + 8), (0, 32), (0, 32))
    common = Box((0, 8), (32, 64), (0, 32))
    gone = [Box((number - 1, number + 7), (0, 32), (0, 32))]
    sums = [(block, sums_of(number, block)), (common, sums_of(number, common))]
    return [number], [(box, labels_of(number % 99, box))], sums, gone


def test_whenever_it_is_killed_the_last_save_is_there(tmp_path: Path) -> None:
    """Forked again and again after one start of Python; each goes on from what the one before left."""
    rng = random.Random(4)
    lengths = []
    for _ in range(25):
        child = os.fork()
        if child == 0:
            try:
                file = RunFile(tmp_path, IDENTITY)
                number = max(file.tiles, default=-1) + 1
                while file.save(*saved_by_number(number)):
                    number += 1
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0.002, 0.08))  # what is tested is a moment that nobody chose
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        tiles, labels, sums = reopened(tmp_path)
        assert tiles == set(range(len(tiles)))
        lengths.append(len(tiles))
        expected: State = (set(), {}, {})
        for number in range(len(tiles)):
            _, [(box, array)], _, _ = saved_by_number(number)
            expected[1][box] = (array.dtype.str, array.tolist())
        if tiles:
            expected[2].update({box: block.tolist() for box, block in saved_by_number(len(tiles) - 1)[2]})
        assert (labels, sums) == expected[1:]
    assert lengths == sorted(lengths)
    assert lengths[-1] > 25


def test_old_files_are_removed_when_a_folder_is_opened(tmp_path: Path) -> None:
    now = time.time()
    names = {}
    for name, age in (("old", 31), ("young", 29)):
        file = RunFile(tmp_path, {"image": name})
        file.save([1], [], [], [])
        file.close()
        os.utime(file.path, (now - age * DAY,) * 2)
        names[name] = file.path
    mine = written(tmp_path).path
    ended = tmp_path / f"{'0' * 16}.run"  # by a kill before anything was in it
    others = [tmp_path / "notes.txt", tmp_path / "mine.run", tmp_path / f"{'1' * 16}.run"]
    for path in (ended, *others):
        path.write_bytes(b"" if path == ended else b"SQLite format 3\0 of somebody else" * 9)
    for path in (mine, ended, *others):
        os.utime(path, (now - 400 * DAY,) * 2)
    assert reopened(tmp_path) == WRITTEN  # the one that is asked for is not too old
    assert set(tmp_path.iterdir()) == {names["young"], mine, *others}


def test_saved_runs_are_listed(tmp_path: Path) -> None:
    assert saved_runs(tmp_path / "nowhere") == []
    now = int(time.time()) - DAY
    for number, name in enumerate(["knee", "hip", "head"]):
        file = RunFile(tmp_path, {"image": name})
        file.describe(ABOUT | {"image": name})
        file.save(range(number), [], [], [])
        file.close()
        if number:
            os.utime(file.path, (now + number,) * 2)
    for strange in ("f" * 16, "strange"):
        (tmp_path / f"{strange}.run").write_bytes(b"no database")
    contents = {path: path.read_bytes() for path in tmp_path.iterdir()}
    found = saved_runs(tmp_path)
    assert [(run.image, run.tiles_done, run.tiles, run.shape) for run in found] == [
        ("head", 2, 9, (4, 5, 6)),
        ("hip", 1, 9, (4, 5, 6)),
    ]
    assert [run.when.timestamp() for run in found] == [now + 2, now + 1]
    assert {(run.model, run.weights_sha256) for run in found} == {("M 3d", "ab")}
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == contents


def test_a_run_that_goes_on_is_not_listed_nor_disturbed(tmp_path: Path) -> None:
    file = RunFile(tmp_path, IDENTITY)
    file.describe(ABOUT)
    for number in range(5):
        assert file.save([number], [], [], [])
        assert saved_runs(tmp_path) == []
    file.close()
    assert [run.tiles_done for run in saved_runs(tmp_path)] == [5]
