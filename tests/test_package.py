import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from random_model import RandomModel

import napari_nnunet_cpu

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "napari", "qtpy", "magicgui", "PyQt6", "scipy", "skimage", "nibabel", "tifffile", "pydantic", "numpy")


def loaded_after(code):
    """Which of the heavy packages a fresh interpreter has loaded after running `code`."""
    report = f"{code}; import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_loads_nothing():
    assert loaded_after("import napari_nnunet_cpu") == []


def test_settings_load_nothing():
    assert loaded_after("from napari_nnunet_cpu import Settings; Settings.fast()") == []


def test_no_stage_needs_a_viewer():
    stages = ["cases", "models", "prepare", "engines", "predict", "export", "bench.document"]
    code = f"import importlib; [importlib.import_module(f'napari_nnunet_cpu.{{stage}}') for stage in {stages}]"
    assert not {"napari", "qtpy", "magicgui", "PyQt6"} & set(loaded_after(code))


def test_reading_a_case_needs_no_torch():
    assert "torch" not in loaded_after("from napari_nnunet_cpu import read_case")


def test_planning_and_adding_up_tiles_needs_no_torch():
    rooms = "import napari_nnunet_cpu.predict, napari_nnunet_cpu.predict.passes, napari_nnunet_cpu.predict.tiles"
    assert not {"torch", "napari"} & set(loaded_after(rooms))


# Modules that load torch or Qt, which whoever enters their room for something else must not pay for.
ENTERED_DIRECTLY = re.compile(
    r"models\.network\.networks|models\.checkpoint\.weights|viewer\.(run|widget|scripting)\b.*"
)


def test_rooms_are_entered_through_their_init():
    """Modules of other folders are imported through the folder, whose `__init__` lists what is for others."""
    package, around = Path(napari_nnunet_cpu.__file__).parent, []
    for path in package.rglob("*.py"):
        own = path.relative_to(package).parts[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("napari_nnunet_cpu."):
                module = tuple(node.module.split(".")[1:])
                room, is_room = module[:-1], package.joinpath(*module).is_dir()
                if not is_room and own[: len(room)] != room and not ENTERED_DIRECTLY.fullmatch(".".join(module)):
                    around.append((str(path), node.module))
    assert around == []


@pytest.mark.parametrize("name", [name for name in napari_nnunet_cpu.__all__ if not name.endswith("_layer")])
def test_every_public_name_is_there_under_its_own_name(name):
    found = getattr(napari_nnunet_cpu, name)
    assert found.__name__ == name
    assert found.__module__.startswith("napari_nnunet_cpu.")
    assert found.__doc__


def test_what_is_imported_is_declared():
    """nnunetv2 is imported by the user's own interpreter of nnU-Net alone."""
    modules = {
        module.partition(".")[0]
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    names = {re.match(r"[\w.-]+", line)[0].lower().replace("-", "_") for line in declared}
    called = {"PIL": "pillow", "skimage": "scikit_image"}
    foreign = modules - sys.stdlib_module_names - {"napari_nnunet_cpu", "nnunetv2"}
    assert {called.get(module, module).lower() for module in foreign} - names == set()


def test_all_is_sorted_and_complete():
    assert sorted(napari_nnunet_cpu.__all__) == list(napari_nnunet_cpu.__all__)
    assert set(napari_nnunet_cpu.__all__) == set(napari_nnunet_cpu._HOME)


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="module 'napari_nnunet_cpu' has no attribute 'segmnet'"):
        napari_nnunet_cpu.segmnet  # noqa: B018
    with pytest.raises(ImportError):
        importlib.import_module("napari_nnunet_cpu.segmnet")


def test_errors_are_one_family_that_qt_does_not_swallow():
    from napari_nnunet_cpu import errors

    family = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(family) >= 7
    for kind in family:
        assert issubclass(kind, errors.NNUNetCPUError)
        assert not issubclass(kind, RuntimeError)


INSPECT = "from napari_nnunet_cpu.cli.inspect import describe; describe(model)"
SEGMENT = (
    "from napari_nnunet_cpu import Case, Settings, segment; import numpy;"
    "segment(Case(numpy.ones((1, 8, 8, 8), 'f4'), (1, 1, 1)), model, Settings.draft())"
)


@pytest.mark.parametrize("code", [INSPECT, SEGMENT], ids=["inspect", "segment"])
def test_the_second_use_of_a_model_needs_no_torch(tmp_path, monkeypatch, code):
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "cache"))
    folder = RandomModel(patch=(8, 8, 8)).write(tmp_path)
    code = f"from napari_nnunet_cpu import load_model; model = load_model({str(folder)!r}); {code}"
    assert "torch" in loaded_after(code)
    assert "torch" not in loaded_after(code)
