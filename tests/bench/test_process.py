import sys
import time

import pytest

from napari_nnunet_cpu.bench.process import run_process

pytestmark = pytest.mark.slow


def python(code, **options):
    return run_process([sys.executable, "-c", code], {"GREETING": "hello"}, **options)


def test_a_process_that_ends_well():
    start = time.perf_counter()
    ended = python("import os, sys; print(os.environ['GREETING'], file=sys.stderr); print('out')")
    assert (ended.output, ended.failure) == ("out\n", None)
    assert 0 < ended.seconds <= time.perf_counter() - start


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("import sys; print('first\\nlast words\\n---', file=sys.stderr); sys.exit(3)", "last words"),
        ("import os; os._exit(7)", "exit code 7"),
        ("raise ValueError('no such model')", "ValueError: no such model"),
    ],
)
def test_a_process_that_fails(code, failure):
    assert python(code).failure == failure


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_process_that_is_killed():
    assert python("import os; os.kill(os.getpid(), 9)").failure == "killed by SIGKILL"


def test_a_process_that_takes_too_long():
    ended = python("import time; time.sleep(60)", timeout=0.5)
    assert ended.failure == "no result after 0.5 s"
    assert 0.5 <= ended.seconds < 30


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_memory_of_children_is_seen():
    child = "import time; block = b'x' * 2**27; time.sleep(2)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert 128 < python(code).children_mb < 256
    assert python("block = b'x' * 2**27").children_mb == 0
