"""Load a model from a path and check it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.json_cache import file_sha256
from napari_nnunet_cpu.models.archive import Unpacked, naming_archive, unpack_model
from napari_nnunet_cpu.models.checkpoint import CheckpointSummary, keep_summary, read_summary, summary_key
from napari_nnunet_cpu.models.checkpoint.weights import Checkpoint, check_weights, read_checkpoint
from napari_nnunet_cpu.models.documents import parse, read_json
from napari_nnunet_cpu.models.folder import (
    CHECKPOINT,
    DATASET,
    ModelFolder,
    find_first_stage,
    find_model,
    find_models,
)
from napari_nnunet_cpu.models.labels import labels_from_dataset
from napari_nnunet_cpu.models.model import TrainedModel
from napari_nnunet_cpu.models.network import check_patch
from napari_nnunet_cpu.models.plans import Dataset, Plans
from napari_nnunet_cpu.models.trainers import network_of
from napari_nnunet_cpu.settings import AUTO_FOLDS, parse_folds


def load_model(
    path: str | os.PathLike[str],
    configuration: str | None = None,
    folds: str | Sequence[str | int] = AUTO_FOLDS,
    checkpoint: str = CHECKPOINT,
) -> TrainedModel:
    """Open a trained nnU-Net v2 model and check that it can be run.

    The first stage of a cascade is found in the folder beside it. If there are several, the one with
    the same trainer and plans is taken.

    Parameters
    ----------
    path : path
        A model folder, a fold folder, a checkpoint, a Dataset folder with one model, an exported zip,
        a path inside such a zip, or a flat folder from a model hub.
    configuration : str, optional
        Chooses between several models at the path: "2d", "3d_fullres", ...
    folds : str or sequence
        The folds to average. "auto": every numbered fold, or fold_all if there are none. "all": nnU-Net's
        fold_all, or every numbered fold if there is none. Or numbers: [0, 1] or "0,1".
    checkpoint : str
        File name of the checkpoints in the fold folders.

    Returns
    -------
    TrainedModel
        The engine reads its weights later, when it needs them.

    Raises
    ------
    ModelError
        When a part of the model is missing, damaged, unsafe or not supported.
    SettingsError
        When the folds can't be parsed.
    """
    chosen = parse_folds(folds) if isinstance(folds, str) else folds
    try:
        place, unpacked = _place(path)
        with naming_archive(unpacked):
            found = find_model(place, configuration, chosen, checkpoint, anywhere=unpacked is not None)
            model = _open(found, unpacked)
            if model.cascade:
                model = replace(model, first_stage=_first_stage(model, found, unpacked))
    except OSError as error:  # no permission, a name too long, a file that vanishes
        raise ModelError(f"{path} can't be read: {error.strerror or error}") from error
    if configuration not in (None, model.configuration_name):
        raise ModelError(f"{path} has no configuration {configuration!r}; found {model.configuration_name}")
    return model


def available_models(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The model folders at a path, in alphabetical order; each can be given to `load_model`.

    Without a model, the path itself, so that `load_model` can explain the problem. Raises `ModelError` if an
    archive can't be unpacked or the path can't be read.
    """
    try:
        place, unpacked = _place(path)
        folders = find_models(place, anywhere=unpacked is not None) or (place,)
        return folders if unpacked is None else tuple(Path(unpacked.named(str(folder))) for folder in folders)
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}") from error


def _place(path: str | os.PathLike[str]) -> tuple[Path, Unpacked | None]:
    """The path of the files, and the archive: for a zip, or a path inside it, they lie in the cache."""
    # Not pathlib's methods: expanduser raises for unknown users, and "." must become a folder with a name.
    path = Path(os.path.abspath(os.path.expanduser(path)))
    for outer in (path, *path.parents):
        if outer.suffix.lower() == ".zip" and outer.is_file():
            unpacked = unpack_model(outer)
            return unpacked.folder / path.relative_to(outer), unpacked
    return path, None


def _open(found: ModelFolder, unpacked: Unpacked | None) -> TrainedModel:
    plans_path, dataset_path = found.plans, found.path / DATASET
    plans = parse(Plans, read_json(plans_path), str(plans_path))
    dataset = parse(Dataset, read_json(dataset_path), str(dataset_path))
    labels = labels_from_dataset(dataset.labels, dataset.regions_class_order, str(dataset_path))
    documents_sha256 = [file_sha256(path) for path in (plans_path, dataset_path)]
    checkpoint_sha256 = tuple(file_sha256(path) for path in found.checkpoints)
    key = summary_key(documents_sha256, checkpoint_sha256)
    summary = read_summary(key)
    checkpoints = [] if summary else [read_checkpoint(path) for path in found.checkpoints]
    if summary is None:
        # As in nnU-Net, the first fold decides configuration and trainer, whatever the folder's name.
        first = checkpoints[0]
        summary = CheckpointSummary(first.configuration, first.trainer, first.mirror_axes, first.fold)
    configuration = plans.configuration(summary.configuration, str(plans_path))
    _check_channels(len(dataset.channels), configuration.normalization_schemes, str(plans_path))
    plans = plans.with_intensities(configuration.normalization_schemes, str(plans_path))
    if any(axis >= len(configuration.patch_size) for axis in summary.mirror_axes):
        raise ModelError(f"{found.checkpoints[0]}: mirroring axes {summary.mirror_axes} do not fit the patch")
    architecture = network_of(summary.trainer, configuration, str(found.checkpoints[0]))
    check_patch(architecture, configuration.patch_size, str(plans_path))
    model = TrainedModel(
        folder=found.path,
        name=plans.dataset_name,
        configuration_name=summary.configuration,
        trainer=summary.trainer,
        plans_name=plans.plans_name,
        channel_names=dataset.channels,
        labels=labels,
        plans=plans,
        configuration=configuration,
        architecture=architecture,
        mirror_axes=summary.mirror_axes,
        folds=found.folds or (summary.fold,),
        checkpoints=found.checkpoints,
        checkpoint_sha256=checkpoint_sha256,
        unpacked=unpacked,
    )
    if checkpoints:
        try:
            _check_weights(model, checkpoints)
        except ModelError as error:
            if model.notice is None:
                raise
            raise ModelError(f"{error}; its trainer {model.trainer} is not known here and may build another") from error
        keep_summary(key, summary)
    return model


def _check_weights(model: TrainedModel, checkpoints: Sequence[Checkpoint]) -> None:
    """Raise `ModelError` if the weights of any fold do not fit the network."""
    import torch

    from napari_nnunet_cpu.models.network.networks import build_network

    found = len(checkpoints[0].weights)
    if model.architecture.blocks > found:  # because building such a network would take long, even on "meta"
        raise ModelError(
            f"{model.checkpoints[0]} does not fit the network of its plans: it has {found} weights "
            f"for {model.architecture.blocks} convolutions or blocks of them"
        )
    with torch.device("meta"):
        network = build_network(model.architecture, model.input_channels, model.labels.heads)
    for checkpoint, path in zip(checkpoints, model.checkpoints, strict=True):
        check_weights(network, checkpoint, path)


def _first_stage(model: TrainedModel, found: ModelFolder, unpacked: Unpacked | None) -> TrainedModel | None:
    """The model of the first stage, with the same folds if the user chose folds; None if it is not there."""
    wanted = model.configuration.previous_stage
    folder = find_first_stage(found.path, wanted) if wanted else None
    if folder is None:
        return None
    folds = found.folds if found.chosen else AUTO_FOLDS
    first = _open(find_model(folder, None, folds, found.checkpoints[0].name), unpacked)
    if first.configuration_name != wanted:
        raise ModelError(
            f"{folder} can't be the first stage of {found.path}: its weights are of {first.configuration_name}"
        )
    if first.cascade:
        raise ModelError(f"{folder} can't be the first stage of {found.path}: it is a cascade itself")
    if (first.labels, first.channel_names) != (model.labels, model.channel_names):
        raise ModelError(f"{folder} can't be the first stage of {found.path}: it has other labels or channels")
    return first


def _check_channels(channels: int, schemes: tuple[str, ...], where: str) -> None:
    if len(schemes) != channels:
        raise ModelError(f"{where}: {len(schemes)} normalization schemes for {channels} channels of dataset.json")
