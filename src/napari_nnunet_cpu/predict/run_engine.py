"""The engine of a run, made on first use because that reads the weights."""

from __future__ import annotations

from napari_nnunet_cpu.engines import Engine, choose_engine
from napari_nnunet_cpu.events import Stage
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network.head_layer import HeadLayer
from napari_nnunet_cpu.predict.passes.accumulated_channels import sums_features
from napari_nnunet_cpu.predict.passes.patches import Patches
from napari_nnunet_cpu.resources import Stopwatch
from napari_nnunet_cpu.settings import Settings


class RunEngine:
    """Chooses the engine, unless one was given.

    Parameters
    ----------
    model, settings
        What to run, and how.
    patches : Patches
        Of the image: parts of it calibrate and check int8.
    streams : int
        Passes at a time that there is memory for.
    stopwatch : Stopwatch
        Measures how long the engine takes to load.
    given : Engine, optional
        The engine.

    Attributes
    ----------
    given : bool
        Whether the engine was given.
    """

    def __init__(
        self,
        model: TrainedModel,
        settings: Settings,
        patches: Patches,
        streams: int,
        stopwatch: Stopwatch,
        given: Engine | None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._patches = patches
        self._streams = streams
        self._stopwatch = stopwatch
        self._engine = given
        self.given = given is not None

    def get(self) -> Engine:
        """The engine, with the weights read.

        Raises
        ------
        ModelError, DeviceError, EngineError
            When it can't be made.
        """
        if self._engine is None:
            with self._stopwatch.timing(Stage.LOAD):
                features = sums_features(self._model, self._settings)
                self._engine = choose_engine(self._model, self._settings, self._patches.spread, features, self._streams)
        return self._engine

    def head_layer(self) -> HeadLayer | None:
        """The layer that makes heads of features; None where the engine gives logits."""
        return self.get().head_layer
