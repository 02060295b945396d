"""The threads of an export."""

import gc
import threading
import weakref

import pytest

from napari_nnunet_cpu.export.workers import Workers


def test_threads_serve_all_work_and_end_with_the_workers() -> None:
    workers, seen = Workers(2), set()
    together = threading.Barrier(2, timeout=60)

    def work(_: int) -> None:
        together.wait()
        seen.add(threading.current_thread())

    for _ in range(3):
        workers.do(work, range(2))
    assert len(seen) == 2
    assert all(thread.is_alive() for thread in seen)
    gone = weakref.ref(workers)
    del workers
    gc.collect()
    assert gone() is None
    for thread in seen:
        thread.join(60)
        assert not thread.is_alive()


def test_no_thread_before_the_first_work() -> None:
    before = threading.active_count()
    workers = Workers(4)
    assert threading.active_count() == before
    workers.do(print, [])


def test_an_error_comes_after_all_work_is_done() -> None:
    """What the work writes to may be freed then."""
    done = []

    def work(number: int) -> None:
        if number == 1:
            raise MemoryError("no room")
        done.append(number)

    with pytest.raises(MemoryError, match="no room"):
        Workers(2).do(work, range(5))
    assert sorted(done) == [0, 2, 3, 4]
