"""Has nnU-Net label the subjects, once per session; prints the table and writes docs/fidelity.md at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fidelity import Agreement, page, table
from oracle import Oracle
from subjects import SUBJECTS, Subject

AGREEMENTS = pytest.StashKey[list[Agreement]]()
PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[AGREEMENTS] = []


@pytest.fixture
def agreements(request: pytest.FixtureRequest) -> list[Agreement]:
    return request.config.stash[AGREEMENTS]


@pytest.fixture(scope="session")
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Subject, Path]:
    """A folder for every subject that is tested now, ready for nnU-Net."""
    root = tmp_path_factory.mktemp("parity")
    tested = {item.callspec.params["subject"] for item in request.session.items if "folders" in item.fixturenames}
    written = {subject: root / f"{SUBJECTS.index(subject):02}" for subject in tested}
    for subject, folder in written.items():
        subject.write(folder)
    return written


@pytest.fixture(scope="session")
def oracles(folders: dict[Subject, Path]) -> Iterator[list[Oracle]]:
    """nnU-Net with 32-bit sums and as shipped, at work on the subjects."""
    root = next(iter(folders.values())).parent
    both = [Oracle(precision, root) for precision in ("float32", "float16")]
    yield both
    for oracle in both:
        oracle.end()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    agreements = config.stash[AGREEMENTS]
    if not agreements:
        return
    terminalreporter.section("agreement with nnunetv2")
    for line in table(agreements):
        terminalreporter.write_line(line)
    if exitstatus == pytest.ExitCode.OK and len(agreements) == len(SUBJECTS):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(agreements), encoding="utf-8")
        terminalreporter.write_line(f"written to {PAGE.relative_to(PAGE.parents[1])}")


def pytest_make_parametrize_id(val: object) -> str | None:
    return val.name if isinstance(val, Subject) else None
