"""Has nnU-Net label the subjects, once per session; prints the table and writes docs/fidelity.md at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from differences import DEVIATIONS, FAILURES
from fidelity import Agreement, agreement_table, page
from oracle import Oracle
from subject import Subject
from subjects import SUBJECTS

from napari_nnunet_cpu.settings import ENGINES

AGREEMENTS = pytest.StashKey[list[Agreement]]()
ASKED = pytest.StashKey[list[str]]()
PROBES = Path(__file__).with_name("probes.py")
PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=ENGINES, default="auto", help="which engine is tested; the page is of auto")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[AGREEMENTS] = []
    config.stash[ASKED] = []


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--engine")


@pytest.fixture
def agreements(request: pytest.FixtureRequest) -> list[Agreement]:
    return request.config.stash[AGREEMENTS]


@pytest.fixture(scope="session")
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Subject, Path]:
    """A folder for every subject that is tested now, ready for nnU-Net."""
    root = tmp_path_factory.mktemp("parity")
    tested = {item.callspec.params["subject"] for item in request.session.items if "folders" in item.fixturenames}
    written = {subject: root / f"{SUBJECTS.index(subject):03}" for subject in tested}
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


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """nnU-Net's answers to all probes."""
    folder = tmp_path_factory.mktemp("probes")
    root = PROBES.parents[2]
    paths = [str(root / "tests"), str(root / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    run = subprocess.run([sys.executable, PROBES, folder], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads((folder / "answers.json").read_text())


@pytest.fixture
def answer(answers: dict[str, Any], request: pytest.FixtureRequest) -> Any:
    """nnU-Net's answer to the probe that the test is named after."""
    name = request.node.name.removeprefix("test_")
    request.config.stash[ASKED].append(name)
    return answers[name]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    agreements = config.stash[AGREEMENTS]
    if not agreements:
        return
    terminalreporter.section("agreement with nnunetv2")
    for line in agreement_table(agreements):
        terminalreporter.write_line(line)
    complete = len(agreements) == len(SUBJECTS) and {*FAILURES, *DEVIATIONS} == {*config.stash[ASKED]}
    if exitstatus == pytest.ExitCode.OK and complete and config.getoption("--engine") == "auto":
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(agreements), encoding="utf-8")
        terminalreporter.write_line(f"written to {PAGE.relative_to(PAGE.parents[1])}")


def pytest_make_parametrize_id(val: object) -> str | None:
    return val.name if isinstance(val, Subject) else None
