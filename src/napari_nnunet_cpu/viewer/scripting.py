"""Segmenting from scripts: one call on a viewer, waiting for the result or not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.errors import CaseError, ViewerError
from napari_nnunet_cpu.models import TrainedModel, load_model
from napari_nnunet_cpu.predict import Result, segment
from napari_nnunet_cpu.settings import Settings
from napari_nnunet_cpu.viewer.labels import labels_layer
from napari_nnunet_cpu.viewer.layers import image_from_layers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_nnunet_cpu.cases.case import Spacing
    from napari_nnunet_cpu.viewer.worker import RunWorker


def segment_layer(
    viewer: ViewerModel,
    layers: str | Image | Sequence[str | Image],
    model: TrainedModel | str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    spacing_mm: Spacing | None = None,
    block: bool = True,
) -> Labels | RunWorker:
    """Segment an image of a viewer and add the labels to it.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Where the layers are; a `ViewerModel` needs no window.
    layers : layer or name, or a sequence of them
        The image; one layer per channel of the model.
    model : TrainedModel or path
        With what.
    settings : Settings, optional
        How; nnU-Net's own way by default.
    spacing_mm : tuple of float, optional
        Spacing (Z, Y, X) of the layer in mm, where the layer does not say.
    block : bool
        Whether to wait. If not, a thread computes while the viewer stays usable, which needs Qt.

    Returns
    -------
    Labels or RunWorker
        The new layer; or, without waiting, the started worker, whose `returned` signal comes
        after the layer was added. Its `quit` cancels.

    Raises
    ------
    NNUNetCPUError
        When something does not fit; without waiting, what fails later goes to the worker's `errored`.
    """
    chosen = [layers] if isinstance(layers, str) or not isinstance(layers, Sequence) else layers
    image = image_from_layers([_layer(viewer, layer) if isinstance(layer, str) else layer for layer in chosen])
    trained = model if isinstance(model, TrainedModel) else load_model(model)
    if block:
        layer = labels_layer(segment(image.case(spacing_mm), trained, settings), image)
        viewer.add_layer(layer)
        return layer

    from napari.utils.notifications import show_error

    from napari_nnunet_cpu.viewer.worker import make_worker

    def add(result: Result | None) -> None:
        if result is not None and not worker.cancelled:
            viewer.add_layer(labels_layer(result, image))

    def tell(error: Exception) -> None:
        show_error(str(error))

    slots: dict[str, Any] = {"returned": add, "errored": tell}
    worker = make_worker(image, trained, settings or Settings(), spacing_mm, slots)
    worker.start()
    return worker


def _layer(viewer: ViewerModel, name: str) -> Image:
    if name not in viewer.layers:
        raise CaseError(f"there is no layer {name!r}; the viewer has {[layer.name for layer in viewer.layers]}")
    return viewer.layers[name]


def open_result(case: Case, result: Result) -> None:
    """Show a case and its labels in a new napari window, until it is closed.

    Raises
    ------
    ViewerError
        When no Qt binding is installed.
    """
    try:
        import qtpy  # noqa: F401  # fails without a binding
    except ImportError as error:
        raise ViewerError("no window can be opened: no Qt binding is installed; pip install 'napari[all]'") from error
    import napari

    from napari_nnunet_cpu.viewer.sample import case_layer

    viewer = napari.Viewer()
    image = viewer.add_layer(case_layer(case))
    viewer.add_layer(labels_layer(result, image_from_layers([image])))
    viewer.dims.current_step = tuple(length // 2 for length in case.shape)
    napari.run()
