"""Asks nnU-Net, in a process of its own, and waits for its answers one at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("reference.py")


class Oracle:
    """One run of `reference.py` over all subjects under a folder."""

    def __init__(self, precision: str, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), precision, str(root)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._said: list[str] = []

    def wait_for(self, name: str) -> None:
        """Until the subject in the folder called `name` is labelled."""
        assert self._process.stdout is not None
        while f"labelled {name}\n" not in self._said:
            line = self._process.stdout.readline()
            assert line, f"nnU-Net ended before it came to {name}:\n{''.join(self._said)}"
            self._said.append(line)

    def end(self) -> None:
        """Stop it, also when it is not done."""
        self._process.kill()
        self._process.communicate()
