"""Choose the accumulated channels: logits, or features if there are fewer features than heads."""

from __future__ import annotations

from napari_nnunet_cpu.engines import Engine
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network import Architecture
from napari_nnunet_cpu.settings import Settings


def extra_channels(settings: Settings) -> int:
    """Number of accumulated channels that do not come from the network: one for the disagreement of passes."""
    return int(settings.uncertainty == "disagreement")


def sums_features(model: TrainedModel, settings: Settings) -> bool:
    """Whether features are accumulated, see `HeadLayer`.

    Not with several folds, because each has its own last layer, and not for disagreement, because that is measured
    on the logits of every pass.
    """
    return len(model.folds) == 1 and not extra_channels(settings) and _features(model) < model.labels.heads


def accumulated_channels(model: TrainedModel, settings: Settings, engine: Engine | None = None) -> int:
    """Number of accumulated channels from the network; a given engine decides it alone."""
    if engine is not None:
        return model.labels.heads if engine.head_layer is None else engine.head_layer.features
    return _features(model) if sums_features(model, settings) else model.labels.heads


def _features(model: TrainedModel) -> int:
    """Number of features before the last layer; networks other than U-Nets count as having as many as heads."""
    architecture = model.architecture
    return architecture.features_per_stage[0] if isinstance(architecture, Architecture) else model.labels.heads
