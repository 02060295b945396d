import importlib.abc
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from random_model import RandomModel

from napari_nnunet_cpu.engines.openvino.library import last_line, load_openvino, openvino_version
from napari_nnunet_cpu.errors import EngineError

pytestmark = pytest.mark.slow

# What openvino_telemetry does when it is imported by openvino without a user's word: it makes an identifier in the
# home folder, and sends it from a process of its own. Here every such step fails and is written down.
SILENT = """
import sys
told = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request", "os.fork", "subprocess.Popen"):
        told.append(event)
        raise OSError(event)
sys.addaudithook(watch)
import numpy as np
from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.engines.openvino.conversion import convert
from napari_nnunet_cpu.engines.openvino.openvino_engine import OpenVINOEngine
model = load_model(sys.argv[1])
convert(model, 0, 1)
engine = OpenVINOEngine(model, 1)
assert engine.forward(np.zeros((1, 8, 8, 8), np.float32), 0).shape == (3, 8, 8, 8)
assert "openvino_telemetry" not in sys.modules
import openvino_telemetry  # whoever wants it can have it
print(told)
"""


@pytest.fixture
def not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """openvino as if nobody had imported it yet; the real one is back afterwards."""
    load_openvino()
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def importing(not_loaded: None) -> Iterator[list[object]]:
    """Instead of openvino's import: raise what is in the list, or note what telemetry it would find."""
    plan: list[object] = []

    class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name: str, *_: object) -> object:
            return importlib.machinery.ModuleSpec(name, self) if name == "openvino" else None

        def exec_module(self, module: types.ModuleType) -> None:
            if plan and isinstance(plan[0], Exception):
                raise plan[0]
            plan.append(sys.modules.get("openvino_telemetry", "absent"))

    finder = Finder()
    sys.meta_path.insert(0, finder)
    yield plan
    sys.meta_path.remove(finder)


def test_nothing_is_sent_and_nothing_written_to_the_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    model = RandomModel(patch=(8, 8, 8)).write(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment |= {"HOME": str(home), "LOCALAPPDATA": str(home), "NAPARI_NNUNET_CPU_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SILENT, model], env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert not list(home.iterdir())


@pytest.mark.parametrize("before", [None, types.ModuleType("openvino_telemetry")], ids=["absent", "imported"])
def test_telemetry_is_hidden_during_the_import_alone(
    importing: list[object], before: types.ModuleType | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is None:
        monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "openvino_telemetry", before)
    load_openvino()
    assert importing == [None]  # which makes its import fail
    assert sys.modules.get("openvino_telemetry") is before
    load_openvino()
    assert importing == [None]  # imported once


def test_it_may_be_missing(not_loaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r"^openvino is not installed; install it with 'pip install openvino'$"):
        load_openvino()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("libtbb.so.12: cannot open shared object file"), "libtbb.so.12: cannot open shared object file"),
        (ModuleNotFoundError("No module named 'numpy'", name="numpy"), "No module named 'numpy'"),
        (RuntimeError("first\nsecond"), "first"),
        (OSError(), "OSError"),
    ],
    ids=repr,
)
def test_it_may_be_broken(importing: list[object], error: Exception, said: str) -> None:
    importing.append(error)
    with pytest.raises(EngineError) as raised:
        load_openvino()
    assert str(raised.value) == f"openvino can't be loaded ({said}); install it again"
    assert raised.value.__cause__ is error


def test_the_version_is_exact() -> None:
    assert openvino_version() == load_openvino().__version__
    assert len(openvino_version().split("-")) >= 3


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["Exception from core.cpp:84:", "Check 'ok' failed at a.cpp:9:", "Wrong weights!", "", ""], "Wrong weights!"),
        (["Can't open it."], "Can't open it"),
        ([""], "RuntimeError"),
        (["", " ", ""], "RuntimeError"),
    ],
)
def test_of_an_error_the_last_line_counts(lines: list[str], said: str) -> None:
    assert last_line(RuntimeError("\n".join(lines))) == said
