"""What is summed over tiles: logits, or the features that they are made of where there are fewer of these."""

from __future__ import annotations

from napari_nnunet_cpu.engines import Engine
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network.architecture import Architecture
from napari_nnunet_cpu.settings import Settings


def extra_channels(settings: Settings) -> int:
    """How many channels are accumulated besides the network's: one for the disagreement of passes."""
    return int(settings.uncertainty == "disagreement")


def sums_features(model: TrainedModel, settings: Settings) -> bool:
    """Whether features are summed, see `HeadLayer`.

    Every fold has its own, and the disagreement of passes is measured on what each of them says in the end.
    """
    return len(model.folds) == 1 and not extra_channels(settings) and _features(model) < model.labels.heads


def accumulated_channels(model: TrainedModel, settings: Settings, engine: Engine | None = None) -> int:
    """How many sums there are; an engine that was given decides by itself what it gives."""
    if engine is not None:
        return model.labels.heads if engine.head_layer is None else engine.head_layer.features
    return _features(model) if sums_features(model, settings) else model.labels.heads


def _features(model: TrainedModel) -> int:
    """Those before the last layer; of others than U-Nets there are always as many as heads."""
    architecture = model.architecture
    return architecture.features_per_stage[0] if isinstance(architecture, Architecture) else model.labels.heads
