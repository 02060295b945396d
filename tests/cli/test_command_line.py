import importlib.metadata
import subprocess
import sys

import pytest

from napari_nnunet_cpu.cli.progress import tile_progress
from napari_nnunet_cpu.events import Stage, StageStarted, TileDone
from napari_nnunet_cpu.resources import peak_memory_bytes


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)


def test_version(nnunet):
    assert nnunet("--version").stdout == f"napari-nnunet-cpu {importlib.metadata.version('napari-nnunet-cpu')}\n"


@pytest.mark.parametrize("command", ["bench", "demo", "inspect", "segment"])
def test_every_command_has_help(nnunet, command):
    assert command in nnunet("--help").stdout
    done = nnunet(command, "-h")
    assert done.exit_code == 0
    assert "--json" in done.stdout


def test_help_loads_nothing_heavy():
    done = python(
        "import atexit, sys; sys.argv[1:] = ['segment', '--help']\n"
        "heavy = {'torch', 'napari', 'numpy', 'scipy', 'nibabel', 'PIL', 'qtpy'}\n"
        "atexit.register(lambda: print('LOADED', sorted(heavy & sys.modules.keys())))\n"
        "from napari_nnunet_cpu.cli import main; main()"
    )
    assert done.returncode == 0
    assert "LOADED []" in done.stdout


def test_a_terminal_that_lacks_characters_is_no_failure():
    done = python(
        "import io, sys; sys.argv[1:] = ['--version']\n"
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'ascii')\n"
        "from napari_nnunet_cpu import cli; cli.main.__globals__['app'] = lambda: print('Schädel')\n"
        "cli.main()"
    )
    assert (done.stdout, done.stderr) == ("Sch\\xe4del\n", "")


def test_progress(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with tile_progress(visible=True) as show:
        show(StageStarted(Stage.PREDICT))
        show(TileDone(3, 12, 75.0))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "running the network" in shown.err
    assert "3 of 12 tiles, 1 min 15 s left" in shown.err


@pytest.mark.parametrize(("visible", "terminal"), [(True, False), (False, True)])
def test_no_progress(capsys, monkeypatch, visible, terminal):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    with tile_progress(visible) as show:
        for stage in Stage:
            show(StageStarted(stage))
        show(TileDone(1, 1, 0.0))
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell without a package of its own")
def test_peak_memory_is_of_the_process_and_never_falls():
    done = python(
        "from napari_nnunet_cpu.resources import peak_memory_bytes as peak\n"
        "before = peak(); block = b'x' * 2**27; del block; print(before, peak())"
    )
    before, after = map(int, done.stdout.split())
    assert 0.9 * 2**27 < after - before < 1.5 * 2**27  # the kernel counts in batches
    assert before < 2**28
    assert peak_memory_bytes() > before
