"""`python benchmarks/run.py`: which cases are made and measured, and the page."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import run
from made_cases import WRITERS, RandomCase, plain_unet
from typer.testing import CliRunner

from napari_nnunet_cpu.bench.table import HEADER

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
TINY = RandomCase(
    "a tiny volume", (24, 30, 28), (2.0, 1.5, 1.5), plain_unet((16, 16, 16), (2.0, 2.0, 2.0), (4, 8, 12), 4)
)


def benchmarks(*arguments):
    return CliRunner().invoke(run.app, [str(argument) for argument in arguments])


@pytest.fixture
def asked(monkeypatch):
    """The cases and options of the measurements that would be made."""
    found = []
    monkeypatch.setattr(run, "write_case", lambda name, folder: name)
    monkeypatch.setattr(run, "own_case", lambda model, images: (model, images))
    monkeypatch.setattr(run, "page", lambda document, command: command)
    monkeypatch.setattr(run, "measure", lambda cases, options: found.append((list(cases(Path())), options)))
    return found


@pytest.mark.skipif(shutil.which("false") is None, reason="stands in for an interpreter without nnunetv2")
def test_a_page_of_a_made_case(tmp_path, monkeypatch):
    monkeypatch.setitem(WRITERS, "tiny", TINY.write)
    out = tmp_path / "page.md"
    done = benchmarks("tiny", "--pairs", 1, "--reference", "false", "--work", tmp_path / "work", "--out", out)
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "tiny: making image and model", "tiny, 1 of 1: exact, first", "tiny, 1 of 1: exact, cached",
    ]  # fmt: skip
    text = out.read_text(encoding="utf-8")
    assert "nnU-Net was not measured: nnunetv2 is not installed in the interpreter named" in text
    assert "python benchmarks/run.py tiny --preset exact --pairs 1 --reference PYTHON --out docs/benchmarks.md" in text
    assert "1 time each" in text
    assert str(tmp_path) not in text
    rows = [dict(zip(HEADER, line.split(" | "), strict=True)) for line in text.splitlines() if "| exact" in line]
    assert [row["way"].strip("| ") for row in rows] == ["exact, first", "exact, cached"]
    assert all(re.fullmatch(r" *\d+\.\d+ s", row["whole"]) for row in rows)
    assert "4 classes" in text
    assert "--agreement 0" in text


@pytest.mark.parametrize(
    ("arguments", "names"), [([], set(WRITERS) - {"118-classes", "300-cube"}), (["--live"], {"sample", "300-cube"})]
)
def test_cases_without_names(asked, arguments, names):
    assert benchmarks(*arguments).exit_code == 0
    ((cases, options),) = asked
    assert set(cases) == names
    assert options.live is (arguments == ["--live"])


def test_an_own_model_instead_of_made_cases_or_after_them(asked, tmp_path):
    own = ["-m", "model", "--image", "a.nii", "--image", "b.nii"]
    page = tmp_path / "page.md"
    assert benchmarks(*own, "--out", page).exit_code == benchmarks("2d", *own).exit_code == 0
    case = (Path("model"), (Path("a.nii"), Path("b.nii")))
    assert [cases for cases, _ in asked] == [[case], ["2d", case]]
    command = "python benchmarks/run.py -m MODEL --image IMAGE --preset exact --pairs 3"
    assert page.read_text(encoding="utf-8") == f"{command} --reference PYTHON --out docs/benchmarks.md"


@pytest.mark.parametrize("name", [page.name for page in DOCS.glob("benchmarks*.md")])
def test_the_command_of_a_page_writes_its_sections(asked, tmp_path, name):
    text = (DOCS / name).read_text(encoding="utf-8")
    _, program, *words = shlex.split(re.search(r"```sh\n(.*)\n```", text)[1])
    assert program == "benchmarks/run.py"
    out = tmp_path / name
    assert benchmarks(*words[:-1], out).exit_code == 0
    assert (asked[0][0], asked[0][1].pairs) == (re.findall(r"^## (?!How|The)(.+)$", text, re.MULTILINE), 3)
    assert shlex.split(out.read_text(encoding="utf-8"))[2:-1] == words[:-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "6-classes"], "unknown case '6-classes': choose among 5-classes, 60-classes"),
        (["sample", "-m", "model"], "a model of your own needs an image"),
        (["sample", "--image", "image.nii"], "give both -m and --image"),
        (["sample", "--preset", "quick"], "unknown preset 'quick'"),
        (["--live", "--out", "page.md"], "--out is for runs side by side: leave it out, or --live"),
    ],
)
def test_what_cannot_be_asked(asked, arguments, message):
    done = benchmarks(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert asked == []


def test_help_names_every_case():
    said = benchmarks("--help").stdout
    assert all(name in said for name in WRITERS)
