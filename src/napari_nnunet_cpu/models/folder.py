"""Where in a folder the model is: the model folder, one of its folds, a checkpoint, or the Dataset folder around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.settings import AUTO_FOLDS

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")  # as nnU-Net's trainer saves
CHECKPOINT = CHECKPOINTS[0]
_NAMED = 12  # models that a message lists
DOCUMENTS = ("plans.json", "dataset.json")


@dataclass(frozen=True)
class ModelFolder:
    """A folder as nnU-Net writes it, with the folds that are to be used.

    Attributes
    ----------
    path : Path
        Holds plans.json, dataset.json and fold_* folders.
    folds : tuple of str
        "0" to "4", or "all".
    checkpoints : tuple of Path
        One file per fold.
    chosen : bool
        Whether the folds were asked for, by name or by their path.
    """

    path: Path
    folds: tuple[str, ...]
    checkpoints: tuple[Path, ...]
    chosen: bool


def find_model(
    path: Path,
    configuration: str | None = None,
    folds: str | Sequence[str | int] = AUTO_FOLDS,
    checkpoint: str = CHECKPOINT,
) -> ModelFolder:
    """Find the model that a path means.

    Parameters
    ----------
    path : Path
        A model folder (trainer__plans__configuration), a fold folder or checkpoint in it, or
        a folder with one model folder in it.
    configuration : str, optional
        Which model folder, where there are several.
    folds : "auto" or sequence
        Which folds; "auto" takes the numbered ones that have the checkpoint, or fold_all where there are none.
    checkpoint : str
        File name in the fold folders.

    Raises
    ------
    ModelError
        Saying what is missing and what was found.
    """
    if path.is_file() and path.suffix == ".pth":
        path, checkpoint = path.parent, path.name
    if path.is_file():
        raise ModelError(
            f"{path} is a model of nnU-Net v1; only nnU-Net v2 models can be used"
            if ".model" in path.name or path.name == "plans.pkl"
            else f"{path} is not a model; choose a model folder, a fold folder, a checkpoint (.pth) or an exported zip"
        )
    if not path.is_dir():
        raise ModelError(f"{path} does not exist; choose a model folder, a fold folder or an exported zip")
    if path.name.startswith("fold_") and not (path / DOCUMENTS[0]).exists():
        folds = (path.name.removeprefix("fold_"),) if folds == AUTO_FOLDS else folds
        path = path.parent
    path = _model_folder(path, configuration)
    found = available_folds(path, checkpoint)
    wanted = _wanted(folds, found)
    if not wanted:
        raise ModelError(_no_fold(path, checkpoint))
    for fold in wanted:
        if fold not in found:
            have = ", ".join(found) or "none"
            raise ModelError(
                f"{path} has no fold_{fold}/{checkpoint}; folds with it: {have}{_others(path, checkpoint)}"
            )
    checkpoints = tuple(path / f"fold_{fold}" / checkpoint for fold in wanted)
    return ModelFolder(path, wanted, checkpoints, chosen=folds != AUTO_FOLDS)


def find_first_stage(folder: Path, configuration: str) -> Path | None:
    """The model folder beside a cascade's that holds its first stage; None when there is none.

    Parameters
    ----------
    folder : Path
        Of the cascade.
    configuration : str
        Of the first stage, as 3d_lowres.

    Raises
    ------
    ModelError
        When there are several and none has the cascade's own trainer and plans.
    """
    same = folder.with_name("__".join([*folder.name.split("__")[:-1], configuration]))
    if same != folder and _is_model(same):
        return same
    beside = sorted(other for other in folder.parent.glob(f"*__{configuration}") if _is_model(other))
    if len(beside) > 1:
        names = ", ".join(other.name for other in beside)
        raise ModelError(f"{folder} needs the labels of {configuration}, and {len(beside)} models make them: {names}")
    return beside[0] if beside else None


def available_folds(path: Path, checkpoint: str = CHECKPOINT) -> tuple[str, ...]:
    """Folds of a model folder that hold the checkpoint, in order, "all" last."""
    names = [p.name.removeprefix("fold_") for p in path.glob("fold_*") if (p / checkpoint).is_file()]
    return tuple(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


def _wanted(folds: str | Sequence[str | int], found: tuple[str, ...]) -> tuple[str, ...]:
    """The folds that are asked for; "all" alone means all numbered ones where there is no fold_all."""
    wanted = tuple(str(fold) for fold in folds) if folds != AUTO_FOLDS else ()
    if folds == AUTO_FOLDS or (wanted == ("all",) and "all" not in found):
        return tuple(fold for fold in found if fold != "all") or found
    return wanted


def find_models(path: Path) -> tuple[Path, ...]:
    """Model folders at a path in alphabetical order: itself, or those in it (a Dataset folder, or one around it)."""
    if _is_model(path):
        return (path,)
    inside = {document.parent for pattern in ("*/plans.json", "*/*/plans.json") for document in path.glob(pattern)}
    return tuple(sorted(folder for folder in inside if _is_model(folder) and any(folder.glob("fold_*"))))


def _is_model(path: Path) -> bool:
    return all((path / name).is_file() for name in DOCUMENTS)


def _model_folder(path: Path, configuration: str | None) -> Path:
    models = list(find_models(path))
    if configuration is not None and path not in models:
        chosen = [folder for folder in models if folder.name.split("__")[-1] == configuration]
        models = chosen if len(chosen) == 1 else models
    if len(models) == 1:
        return models[0]
    if models:
        names = [str(folder.relative_to(path)) for folder in models[:_NAMED]] + ["…"] * (len(models) > _NAMED)
        raise ModelError(f"{path} holds {len(models)} models; choose one: {', '.join(names)}")
    raise ModelError(_not_a_model(path))


def _not_a_model(path: Path) -> str:
    if any(path.glob("plans.pkl")) or any(path.glob("*.model*")) or any(path.glob("fold_*/*.model*")):
        return f"{path} is a model of nnU-Net v1; only nnU-Net v2 models can be used"
    missing = " and ".join(name for name in DOCUMENTS if not (path / name).is_file())
    names = sorted(entry.name for entry in path.iterdir())
    found = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") if names else "nothing"
    return f"{path} is not an nnU-Net v2 model: {missing} missing, found {found}; choose trainer__plans__configuration"


def _no_fold(path: Path, checkpoint: str) -> str:
    others = _others(path, checkpoint)
    folders = sorted(folder.name for folder in path.glob("fold_*"))
    return f"{path} has no {checkpoint} in {', '.join(folders) or 'any fold_* folder (there is none)'}{others}"


def _others(path: Path, checkpoint: str) -> str:
    names = sorted({file.name for file in path.glob("fold_*/*.pth")} - {checkpoint})
    return f"; other checkpoints there: {', '.join(names)}" if names else ""
