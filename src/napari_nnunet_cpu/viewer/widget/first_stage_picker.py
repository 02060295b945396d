"""Choose the first stage of a cascade: run it, or take the labels of a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from magicgui.widgets import ComboBox
from napari.layers import Labels

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.viewer.results import check_image

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_nnunet_cpu.models import TrainedModel
    from napari_nnunet_cpu.viewer.image import LayerImage

_RUN_IT = "run it first"  # not None, because magicgui emits no event when the value becomes None


class FirstStagePicker(ComboBox):
    """A box, shown for cascades: run the first stage, or take a Labels layer, for example that of an earlier run."""

    def __init__(self, viewer: ViewerModel, on_change: Callable[[], None]) -> None:
        self._viewer = viewer
        self._models: tuple[TrainedModel, ...] = ()
        super().__init__(
            label="first stage",
            choices=self._offered,
            visible=False,
            tooltip="Labels that a cascade needs: its first stage is run before it, or a layer holds them already",
        )
        self.changed.connect(on_change)

    def set_models(self, models: Sequence[TrainedModel]) -> None:
        """Follow the chosen models."""
        self._models = tuple(models)
        self.visible = self._asked_for
        self.reset_choices()

    @property
    def layer(self) -> Labels | None:
        """The chosen layer; None if the first stage is to run."""
        return self.value if isinstance(self.value, Labels) else None

    def labels(self, image: LayerImage) -> npt.NDArray[Any] | None:
        """A copy of the chosen layer's labels, on the grid of the image's labels; None to run the first stage.

        Raises `CaseError` if the layer does not lie on the image or was made from another one, and `ModelError` if the
        first stage can be neither run nor read from a layer.
        """
        if self.outline(image) is None:
            return None
        labels = np.array(self.value.data)
        image.from_labels(labels, 0)  # raises for a multiscale layer, whose array is the coarsest scale
        return labels

    def outline(self, image: LayerImage) -> npt.NDArray[Any] | None:
        """Shape and dtype of the labels of one time point (Z, Y, X) in file order, without reading the layer.

        Raises the errors of `labels`.
        """
        if not self._asked_for:
            return None
        layer = self.layer
        if layer is None:
            for model in self._models:
                if model.cascade and model.first_stage is None:
                    raise ModelError(
                        f"{model.folder.name} needs the labels of {model.configuration.previous_stage}: put that "
                        "model's folder beside it, or choose a Labels layer as first stage"
                    )
            return None
        check_image(layer, image, "choose labels of this image, or run the first stage")
        data = layer.data
        return image.from_labels(np.broadcast_to(np.zeros((), data.dtype), data.shape), 0)

    @property
    def _asked_for(self) -> bool:
        return any(model.cascade for model in self._models)

    def _offered(self, _: Any = None) -> list[tuple[str, Labels | str]]:
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Labels)]
        return [(_RUN_IT, _RUN_IT), *((layer.name, layer) for layer in layers)]
