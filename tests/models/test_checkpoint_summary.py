"""The second time a model is opened its checkpoints are not read."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from random_model import RandomModel

from napari_nnunet_cpu import load_model
from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models import load
from napari_nnunet_cpu.models.checkpoint import summary


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints that are read, in turn."""
    paths: list[Path] = []
    real = load.read_checkpoint

    def recording(path: Path) -> object:
        paths.append(path)
        return real(path)

    monkeypatch.setattr(load, "read_checkpoint", recording)
    return paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return RandomModel(folds=("0", "1"), mirror_axes=(0, 2), trainer="nnUNetTrainerNoDA").write(tmp_path)


def test_it_says_the_same(folder: Path, read: list[Path]) -> None:
    first = load_model(folder)
    assert len(read) == 2
    second = load_model(folder)
    assert len(read) == 2
    assert asdict(second) == asdict(first)
    assert second.mirror_axes == (0, 2)


@pytest.mark.parametrize("name", ["plans.json", "dataset.json", "fold_1/checkpoint_final.pth"])
def test_a_file_that_changes_is_checked_anew(folder: Path, read: list[Path], name: str) -> None:
    load_model(folder)
    path = folder / name
    if path.suffix == ".json":
        path.write_text(path.read_text() + "\n")
    else:
        torch.save(torch.load(path, weights_only=False) | {"current_epoch": 2}, path)
    load_model(folder)
    assert len(read) == 4


def test_a_model_that_does_not_fit_has_no_summary(folder: Path, read: list[Path]) -> None:
    path = folder / "fold_1" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    content["network_weights"].popitem()
    torch.save(content, path)
    for _ in range(2):
        with pytest.raises(ModelError, match="does not fit"):
            load_model(folder)
    assert len(read) == 4


def test_another_version_of_the_code_checks_anew(
    folder: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_model(folder)
    monkeypatch.setattr(summary, "installed_version", lambda _: "99")
    load_model(folder)
    assert len(read) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document.clear(),
        lambda document: document.update(mirror_axes=["0"]),
        lambda document: document.update(mirror_axes=[-1]),
        lambda document: document.update(trainer=3),
        lambda document: document.pop("fold"),
    ],
)
def test_a_damaged_summary_is_written_anew(
    folder: Path, cache: Path, read: list[Path], damage: Callable[[dict[str, object]], None]
) -> None:
    model = load_model(folder)
    (file,) = (cache / "checkpoint-summaries").iterdir()
    document = json.loads(file.read_text())
    damage(document)
    file.write_text(json.dumps(document))
    assert load_model(folder) == model
    assert len(read) == 4
    load_model(folder)
    assert len(read) == 4
