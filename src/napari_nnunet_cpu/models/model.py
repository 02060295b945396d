"""A trained model: its description, and on demand its weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_nnunet_cpu.models.archive import Unpacked, naming_archive
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.models.network import Architecture, Primus
from napari_nnunet_cpu.models.plans import Configuration, Plans
from napari_nnunet_cpu.models.trainers import notice_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TrainedModel:
    """Everything inference needs of one configuration of an nnU-Net model.

    Attributes
    ----------
    folder : Path
        The model folder.
    name : str
        Dataset name.
    configuration_name, trainer, plans_name : str
        nnU-Net's names of these.
    channel_names : tuple of str
        Input channels, in order.
    labels : Labels
        The labels or regions of the heads.
    plans : Plans
        Axis order, intensities, reader.
    configuration : Configuration
        Patch, spacing, normalization, resampling, and the network in the plans.
    architecture : Architecture or Primus
        The network that the trainer built: usually the one in the plans.
    mirror_axes : tuple of int
        Patch axes that may be mirrored at inference; empty if the training did not mirror.
    folds : tuple of str
        The folds whose logits are averaged.
    checkpoints : tuple of Path
        One file per fold.
    checkpoint_sha256 : tuple of str
        The hashes of these files.
    first_stage : TrainedModel or None
        For a cascade: the model whose labels the network sees as extra channels. None without a
        cascade, and if that model was not found (then its labels must be given to a run).
    unpacked : Unpacked or None
        The archive that the folder was unpacked from, if any.
    """

    folder: Path
    name: str
    configuration_name: str
    trainer: str
    plans_name: str
    channel_names: tuple[str, ...]
    labels: Labels
    plans: Plans
    configuration: Configuration
    architecture: Architecture | Primus
    mirror_axes: tuple[int, ...]
    folds: tuple[str, ...]
    checkpoints: tuple[Path, ...]
    checkpoint_sha256: tuple[str, ...]
    first_stage: TrainedModel | None = None
    unpacked: Unpacked | None = None

    @property
    def source(self) -> Path:
        """The folder, as the user knows it: for an archive, the archive's path and the path in it."""
        return self.folder if self.unpacked is None else Path(self.unpacked.named(str(self.folder)))

    @property
    def cascade(self) -> bool:
        """Whether the network needs the labels of a first stage."""
        return self.configuration.previous_stage is not None

    @property
    def input_channels(self) -> int:
        """Channels of the network: those of the image and, in a cascade, one per label of the first stage."""
        return len(self.channel_names) + (len(self.labels.foreground) if self.cascade else 0)

    @property
    def notice(self) -> str | None:
        """A warning about the trainer that the user should read; None without one."""
        return notice_of(self.trainer)

    @property
    def stages(self) -> tuple[TrainedModel, ...]:
        """The models that run one after the other: the first stage, if any, and this model."""
        return (self,) if self.first_stage is None else (self.first_stage, self)

    def network(self, fold: int) -> nn.Module:
        """The network with the weights of `folds[fold]`, on the CPU, in evaluation mode.

        It maps (N, C, *patch) to logits (N, heads, *patch). Raises `ModelError` if the checkpoint is damaged
        or does not fit.
        """
        import torch

        from napari_nnunet_cpu.models.checkpoint.weights import load_weights, read_checkpoint
        from napari_nnunet_cpu.models.network.networks import build_network

        path = self.checkpoints[fold]
        with torch.device("meta"):
            network = build_network(self.architecture, self.input_channels, self.labels.heads)
        with naming_archive(self.unpacked):
            return load_weights(network, read_checkpoint(path), path)

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of all checkpoints, in the order of the folds."""
        return hashlib.sha256(b"".join(bytes.fromhex(one) for one in self.checkpoint_sha256)).hexdigest()

    def describe(self) -> dict[str, Any]:
        """The model as plain values, for `inspect`, the widget and provenance."""
        configuration = self.configuration
        return {
            "name": self.name,
            "configuration": self.configuration_name,
            "first_stage": self.first_stage.configuration_name
            if self.first_stage
            else self.configuration.previous_stage,
            "trainer": self.trainer,
            "notice": self.notice,
            "plans": self.plans_name,
            "network": self.architecture.family,
            "folds": list(self.folds),
            "checkpoint": self.checkpoints[0].name,
            "channels": list(self.channel_names),
            "labels": {str(value): name for value, name in self.labels.names.items()},
            "regions": self.labels.region_values is not None,
            "spacing_mm": list(configuration.spacing),
            "patch": list(configuration.patch_size),
            "mirror_axes": list(self.mirror_axes),
            "normalization": list(configuration.normalization_schemes),
            "reader": self.plans.image_reader_writer,
            "folder": str(self.source),
        }
