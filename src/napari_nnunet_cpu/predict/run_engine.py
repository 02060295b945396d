"""The engine of a run, which is made when it is needed first."""

from __future__ import annotations

from napari_nnunet_cpu.engines import Engine, choose_engine
from napari_nnunet_cpu.events import Stage
from napari_nnunet_cpu.models import TrainedModel
from napari_nnunet_cpu.models.network.head_layer import HeadLayer
from napari_nnunet_cpu.predict.passes.accumulated_channels import accumulated_channels, sums_features
from napari_nnunet_cpu.predict.passes.patches import Patches
from napari_nnunet_cpu.resources import Stopwatch
from napari_nnunet_cpu.settings import Settings


class RunEngine:
    """Chooses the engine, unless one was given.

    Parameters
    ----------
    model, settings
        What to run, and how.
    stopwatch : Stopwatch
        Is told how long it took.
    given : Engine, optional
        The engine.

    Attributes
    ----------
    channels : int
        How many channels are summed, see `accumulated_channels`.
    given : bool
        Whether the engine was given. It is not what the settings stand for then, so that its times tell nothing of
        later runs.
    folds : int
        Networks that it holds.
    patches : Patches
        Of the image, once that is prepared: parts of it decide about int8.
    streams : int
        Passes at a time that there is memory for, once that is planned.
    """

    patches: Patches
    streams = 1

    def __init__(self, model: TrainedModel, settings: Settings, stopwatch: Stopwatch, given: Engine | None) -> None:
        self._model = model
        self._settings = settings
        self._stopwatch = stopwatch
        self._engine = given
        self.given = given is not None
        self.folds = len(model.folds) if given is None else given.folds
        self.channels = accumulated_channels(model, settings, given)

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
                self._engine = choose_engine(self._model, self._settings, self.patches.spread, features, self.streams)
        return self._engine

    def head_layer(self) -> HeadLayer | None:
        """What makes heads of the channels, see `Engine`."""
        return self.get().head_layer
