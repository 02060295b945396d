"""A trained model: what it is, and its weights when they are asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_nnunet_cpu.models.archive import Unpacked, naming_archive
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.models.network.primus import Primus
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
        As nnU-Net calls them.
    channel_names : tuple of str
        Input channels, in order.
    labels : Labels
        What the heads mean.
    plans : Plans
        Axis order, intensities, reader.
    configuration : Configuration
        Patch, spacing, normalization, resampling, and the network that the plans describe.
    architecture : Architecture or Primus
        The network that the trainer built: mostly the one that the plans describe.
    mirror_axes : tuple of int
        Patch axes that may be mirrored at inference; empty where that was not trained.
    folds : tuple of str
        The folds whose logits are averaged.
    checkpoints : tuple of Path
        One file per fold.
    checkpoint_sha256 : tuple of str
        Their hashes.
    first_stage : TrainedModel or None
        Of a cascade: the model whose labels the network sees beside the image. None where this is
        no cascade, and where that model is not at hand (then its labels must be given to a run).
    unpacked : Unpacked or None
        The archive that the folder comes from, if it does.
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
        """The folder as users know it: of a model from an archive, the archive and the path in it."""
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
        """What users have to know before they trust the labels; None where there is nothing."""
        return notice_of(self.trainer)

    @property
    def stages(self) -> tuple[TrainedModel, ...]:
        """The models that run one after the other: this one, after its first stage where there is one."""
        return (self,) if self.first_stage is None else (self.first_stage, self)

    def network(self, fold: int) -> nn.Module:
        """The network of the `fold`-th of `folds` with its weights, on the CPU, in evaluation mode.

        Maps (N, C, *patch) to logits (N, heads, *patch).

        Raises
        ------
        ModelError
            When the checkpoint is damaged or does not fit.
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
        """Hash of the checkpoints, folds in order."""
        return hashlib.sha256(b"".join(bytes.fromhex(one) for one in self.checkpoint_sha256)).hexdigest()

    def describe(self) -> dict[str, Any]:
        """What the model is, as plain values: for `inspect`, the widget and provenance."""
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
