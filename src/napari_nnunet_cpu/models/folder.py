"""Find the model at a path: a model folder, one of its folds, a checkpoint, or the Dataset folder around it.

Model hubs have flat model folders: plans under their own name, such as nnUNetPlans.json, and one
checkpoint beside them instead of fold_* folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.settings import AUTO_FOLDS

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")  # as nnU-Net's trainer saves
CHECKPOINT = CHECKPOINTS[0]
_MAX_LISTED = 12  # models in a message
DATASET = "dataset.json"
_PLANS, _NAMED_PLANS = "plans.json", "*Plans*.json"


@dataclass(frozen=True)
class ModelFolder:
    """A model folder of nnU-Net, or a flat one, with the folds to use."""

    path: Path  # holds the plans, dataset.json, and fold_* folders or a checkpoint
    plans: Path
    folds: tuple[str, ...]  # "0" to "4", or "all"; empty for a flat folder, where only the checkpoint tells its fold
    checkpoints: tuple[Path, ...]  # one file per fold
    chosen: bool  # whether the user chose the folds, by name or by their path


def find_model(
    path: Path,
    configuration: str | None = None,
    folds: str | Sequence[str | int] = AUTO_FOLDS,
    checkpoint: str = CHECKPOINT,
    anywhere: bool = False,
) -> ModelFolder:
    """Find the model at a path, see `load_model`; with `anywhere`, its folder may lie at any depth below the path.

    A flat folder may hold a single checkpoint of another name than `checkpoint`. Raises `ModelError`, which names the
    missing part and the content of the folder.
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
    if path.name.startswith("fold_") and not _is_model(path):
        folds = (path.name.removeprefix("fold_"),) if folds == AUTO_FOLDS else folds
        path = path.parent
    path = _model_folder(path, configuration, anywhere)
    plans = _plans_of(path) or path / _PLANS
    found = available_folds(path, checkpoint)
    wanted = _wanted(folds, found)
    flat = None if found else _flat_checkpoint(path, checkpoint)
    if flat is not None:
        if wanted:
            raise ModelError(f"{path} has no folds, but {flat.name} alone; leave the folds {', '.join(wanted)} away")
        return ModelFolder(path, plans, (), (flat,), chosen=False)
    if not wanted:
        raise ModelError(_no_fold(path, checkpoint))
    for fold in wanted:
        if fold not in found:
            have = ", ".join(found) or "none"
            raise ModelError(
                f"{path} has no fold_{fold}/{checkpoint}; folds with it: {have}{_others(path, checkpoint)}"
            )
    checkpoints = tuple(path / f"fold_{fold}" / checkpoint for fold in wanted)
    return ModelFolder(path, plans, wanted, checkpoints, chosen=folds != AUTO_FOLDS)


def find_first_stage(folder: Path, configuration: str) -> Path | None:
    """The model folder with the first stage of a cascade, beside the cascade's folder; None if there is none.

    `configuration` is that of the first stage, such as 3d_lowres. Raises `ModelError` if there are several such
    models, but none with the trainer and plans of the cascade.
    """
    same_training = folder.with_name("__".join([*folder.name.split("__")[:-1], configuration]))
    if same_training != folder and _is_model(same_training):
        return same_training
    candidates = sorted(other for other in folder.parent.glob(f"*__{configuration}") if _is_model(other))
    if len(candidates) > 1:
        names = ", ".join(other.name for other in candidates)
        raise ModelError(
            f"{folder} needs the labels of {configuration}, and {len(candidates)} models make them: {names}"
        )
    return candidates[0] if candidates else None


def available_folds(path: Path, checkpoint: str = CHECKPOINT) -> tuple[str, ...]:
    """The folds of a model folder that hold the checkpoint, in order, "all" last."""
    names = [p.name.removeprefix("fold_") for p in path.glob("fold_*") if (p / checkpoint).is_file()]
    return tuple(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


def _wanted(folds: str | Sequence[str | int], found: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen folds; ("all",) means all numbered folds if there is no fold_all."""
    wanted = tuple(str(fold) for fold in folds) if folds != AUTO_FOLDS else ()
    if folds == AUTO_FOLDS or (wanted == ("all",) and "all" not in found):
        return tuple(fold for fold in found if fold != "all") or found
    return wanted


def find_models(path: Path, anywhere: bool = False) -> tuple[Path, ...]:
    """The model folders at a path in alphabetical order: the path itself, or folders up to two levels below.

    With `anywhere` they may lie at any depth, which is only fast for small folders.
    """
    if _is_model(path):
        return (path,)
    inside = {
        document.parent
        for depth in (["**"] if anywhere else ["*", "*/*"])
        for document in path.glob(f"{depth}/{DATASET}")
    }
    return tuple(sorted(folder for folder in inside if _is_model(folder) and _has_weights(folder)))


def _is_model(path: Path) -> bool:
    plans = _plans_of(path)
    # Without weights it may be a folder of preprocessed images, which holds plans under such a name, too.
    return (path / DATASET).is_file() and plans is not None and (plans.name == _PLANS or _has_weights(path))


def _plans_of(path: Path) -> Path | None:
    """plans.json, or the only plans under another name; None without plans, and for several."""
    if (path / _PLANS).is_file():
        return path / _PLANS
    named = [file for file in path.glob(_NAMED_PLANS) if file.is_file()]
    return named[0] if len(named) == 1 else None


def _has_weights(path: Path) -> bool:
    return any(path.glob("fold_*")) or any(path.glob("*.pth"))


def _flat_checkpoint(path: Path, name: str) -> Path | None:
    """The checkpoint in a folder without folds: the one with this name, or the only one."""
    if any(path.glob("fold_*")):
        return None
    found = sorted(path.glob("*.pth"))
    return path / name if path / name in found else found[0] if len(found) == 1 else None


def _model_folder(path: Path, configuration: str | None, anywhere: bool) -> Path:
    models = list(find_models(path, anywhere))
    if configuration is not None and path not in models:
        chosen = [folder for folder in models if folder.name.split("__")[-1] == configuration]
        models = chosen if len(chosen) == 1 else models
    if len(models) == 1:
        return models[0]
    if models:
        names = [str(folder.relative_to(path)) for folder in models[:_MAX_LISTED]] + ["…"] * (len(models) > _MAX_LISTED)
        raise ModelError(f"{path} holds {len(models)} models; choose one: {', '.join(names)}")
    raise ModelError(_not_a_model(path))


def _not_a_model(path: Path) -> str:
    if any(path.glob("plans.pkl")) or any(path.glob("*.model*")) or any(path.glob("fold_*/*.model*")):
        return f"{path} is a model of nnU-Net v1; only nnU-Net v2 models can be used"
    parts = {_PLANS: _plans_of(path) is not None, DATASET: (path / DATASET).is_file()}
    missing = " and ".join(name for name, found in parts.items() if not found) or "weights"
    names = sorted(entry.name for entry in path.iterdir())
    found = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") if names else "nothing"
    return f"{path} is not an nnU-Net v2 model: {missing} missing, found {found}; choose trainer__plans__configuration"


def _no_fold(path: Path, checkpoint: str) -> str:
    others = _others(path, checkpoint)
    folders = sorted(folder.name for folder in path.glob("fold_*"))
    return f"{path} has no {checkpoint} in {', '.join(folders) or 'any fold_* folder (there is none)'}{others}"


def _others(path: Path, checkpoint: str) -> str:
    names = sorted({file.name for place in ("fold_*/*.pth", "*.pth") for file in path.glob(place)} - {checkpoint})
    return f"; other checkpoints there: {', '.join(names)}" if names else ""
