"""A process from start to exit: its seconds, its output, its failure, and the memory of its children."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

_LOOK_EVERY = 0.1  # seconds


@dataclass(frozen=True)
class Ended:
    """A process that has ended; `failure` is one line on why it failed."""

    seconds: float  # from start to exit
    output: str  # of stdout
    failure: str | None
    children_mb: float  # peak memory of its children and theirs together


def run_process(
    command: Sequence[str], environment: Mapping[str, str], timeout: float = threading.TIMEOUT_MAX
) -> Ended:
    """Run a command and wait for it; kill it after `timeout` seconds.

    `environment` holds variables on top of this process's own.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**os.environ, **environment}
        )
        # Not wait(timeout), because it looks twenty times a second only, and the shortest runs differ by less.
        limit = threading.Timer(timeout, process.kill)
        children = _Children(process.pid)
        try:
            limit.start()
            children.start()
            code = process.wait()
            seconds = time.perf_counter() - start
        finally:
            limit.cancel()
            children.end()
            process.kill()  # after an interrupt; does nothing to a process that has ended
        out.seek(0)
        err.seek(0)
        output, said = (file.read().decode(errors="replace") for file in (out, err))
    failure = f"no result after {timeout:g} s" if code and seconds >= timeout else _failure(code, said)
    return Ended(seconds, output, failure, children.peak_bytes / 2**20)


def _failure(code: int, said: str) -> str | None:
    """The reason why a process failed: a signal, or the last line of stderr; None if it did not fail."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = [line.strip(" │") for line in said.splitlines() if re.search(r"\w", line)]
    return (lines[-1] if lines else f"exit code {code}") if code else None


class _Children(threading.Thread):
    """Samples the memory of a process's children in a thread."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._pid = pid
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_LOOK_EVERY):
            self.peak_bytes = max(self.peak_bytes, _resident_bytes_below(self._pid))

    def end(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self.join()


def _resident_bytes_below(pid: int) -> int:
    """Memory of a process's children and their children now."""
    total = 0
    with contextlib.suppress(psutil.Error):  # raised if the process has ended
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += child.memory_info().rss
    return total
