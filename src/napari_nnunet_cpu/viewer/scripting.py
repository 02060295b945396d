"""Segmenting from scripts: one call on a viewer, waiting for the result or not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.errors import CaseError, ViewerError
from napari_nnunet_cpu.models import TrainedModel, load_model, members_of
from napari_nnunet_cpu.predict import Result, drained
from napari_nnunet_cpu.settings import Settings
from napari_nnunet_cpu.viewer.labels import add_result
from napari_nnunet_cpu.viewer.layers import image_from_layers
from napari_nnunet_cpu.viewer.time_points import LayerLabels, LayerResult, at_time, segment_times

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_nnunet_cpu.cases.case import Spacing
    from napari_nnunet_cpu.viewer.worker import RunWorker


OneModel = TrainedModel | str | os.PathLike[str]


def segment_layer(
    viewer: ViewerModel,
    layers: str | Image | Sequence[str | Image],
    model: OneModel | Sequence[OneModel],
    settings: Settings | None = None,
    *,
    spacing_mm: Spacing | None = None,
    axes: str | None = None,
    time: int | Literal["current", "all"] = "current",
    block: bool = True,
) -> Labels | RunWorker:
    """Segment an image of a viewer and add the labels to it.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Where the layers are; a `ViewerModel` needs no window.
    layers : layer or name, or a sequence of them
        The image: one layer per channel of the model, or one with all of them, which has a channel
        axis of that length or is RGB.
    model : TrainedModel or path, or a sequence of them
        With what; several are an ensemble, whose probabilities are averaged.
    settings : Settings, optional
        How; nnU-Net's own way by default.
    spacing_mm : tuple of float, optional
        Spacing (Z, Y, X) in mm, where the layer does not say.
    axes : str, optional
        What the layer's axes are, where it does not say: "T, C, Z, Y, X" in any order, as many as
        it has, with a minus for one that runs backwards ("X, -Y, Z"). Z, Y, X are those of the
        files that the model was trained on, Z the slowest. For models that turn images to RAS
        first, the directions of the body in which the axes run: "S, A, R" or "I, P, L".
    time : int or {"current", "all"}
        Of a time series the time point with this number, the one that the viewer shows, or all of
        them, one after the other. The labels lie on these time points only.
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
    named = [layers] if isinstance(layers, str) or not isinstance(layers, Sequence) else layers
    chosen = [_layer(viewer, layer) if isinstance(layer, str) else layer for layer in named]
    several = [model] if isinstance(model, TrainedModel | str | os.PathLike) else model
    trained = members_of([one if isinstance(one, TrainedModel) else load_model(one) for one in several])
    planar = len(trained[0].configuration.patch_size) == 2
    series = image_from_layers(chosen, axes=axes, channels=len(trained[0].channel_names), planar=planar)
    image = at_time(series, time, viewer, chosen[0])
    if block:
        result = drained(segment_times(image, trained, settings or Settings(), spacing_mm))
        return add_result(viewer, result, image)

    from napari.utils.notifications import show_error

    from napari_nnunet_cpu.viewer.worker import make_worker

    def add(result: LayerResult | None) -> None:
        if result is not None and not worker.cancelled:
            add_result(viewer, result, image)

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
    image = image_from_layers([viewer.add_layer(case_layer(case))])
    labels = LayerLabels(image)
    labels.add(result)
    add_result(viewer, labels.result(), image)
    viewer.dims.current_step = tuple(length // 2 for length in case.shape)
    napari.run()
