"""The engine of a run, chosen on first use because that reads the weights."""

from __future__ import annotations

from dataclasses import dataclass

from napari_nnunet_cpu.engines import Engine, choose_engine
from napari_nnunet_cpu.events import Stage
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network import HeadLayer
from napari_nnunet_cpu.predict.passes import Patches, sums_features
from napari_nnunet_cpu.resources import Stopwatch
from napari_nnunet_cpu.settings import Settings


@dataclass(eq=False)
class RunEngine:
    """Chooses the engine, unless the caller gave one."""

    model: TrainedModel
    settings: Settings
    patches: Patches  # calibrate and check int8
    streams: int  # for which there is memory
    stopwatch: Stopwatch
    engine: Engine | None

    def __post_init__(self) -> None:
        self.given = self.engine is not None

    def get(self) -> Engine:
        """The engine; raises `ModelError`, `DeviceError` or `EngineError` if it can't be made."""
        if self.engine is None:
            with self.stopwatch.timing(Stage.LOAD):
                features = sums_features(self.model, self.settings)
                self.engine = choose_engine(self.model, self.settings, self.patches.spread, features, self.streams)
        return self.engine

    def head_layer(self) -> HeadLayer | None:
        """The layer that turns features into heads; None if the engine returns logits."""
        return self.get().head_layer
