"""Segmenting from scripts: one call on a viewer, waiting for the result or not."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_nnunet_cpu.cases import Case
from napari_nnunet_cpu.errors import CaseError, ViewerError
from napari_nnunet_cpu.models import TrainedModel, load_model, members_of
from napari_nnunet_cpu.predict import Result, run_to_end
from napari_nnunet_cpu.settings import Settings
from napari_nnunet_cpu.viewer.image.layers import LayerImage, image_from_layers
from napari_nnunet_cpu.viewer.image.view_state import at_time
from napari_nnunet_cpu.viewer.results.corrected_labels import save_corrected
from napari_nnunet_cpu.viewer.results.labels import add_result
from napari_nnunet_cpu.viewer.results.layer_result import LayerLabels
from napari_nnunet_cpu.viewer.results.merge import MergeRule, MergeTarget
from napari_nnunet_cpu.viewer.results.uncertainty import add_uncertainty
from napari_nnunet_cpu.viewer.run.layer_segmentation import LayerSegmentation

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_nnunet_cpu.cases.case import Spacing
    from napari_nnunet_cpu.viewer.run.live_run import LiveRun


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
    into: str | Labels | None = None,
    rule: MergeRule | None = None,
    folder: str | os.PathLike[str] | None = None,
    priority: int = 0,
    block: bool = True,
) -> Labels | LiveRun:
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
    into : layer or name, optional
        A Labels layer that takes the labels, as one step that can be undone; a new layer when None.
    rule : MergeRule, optional
        What may be written there: by default only where it is 0.
    folder : path, optional
        Where the run is saved while it goes on, and taken up from; a warning tells why it can't be.
    priority : int
        Without waiting: below 0 for a run that pauses while another one wants the computer.
    block : bool
        Whether to wait. If not, a thread computes while the viewer stays usable, which needs Qt.

    Returns
    -------
    Labels or LiveRun
        The new layer, beside that of the uncertainty where the settings ask for one; or, without waiting, the started
        run: listen to its `progressed`, `ended` and `failed`, `cancel` it, `choose` another part and `start` it
        again, or `wait` for it.

    Raises
    ------
    NNUNetCPUError
        When something does not fit; without waiting, what fails later goes to the run's `failed`.
    """
    chosen = _layers(viewer, layers)
    several = [model] if isinstance(model, TrainedModel | str | os.PathLike) else model
    trained = members_of([one if isinstance(one, TrainedModel) else load_model(one) for one in several])
    series = _image(chosen, trained[0], axes)
    image = at_time(series, time, viewer, chosen[0])
    layer = _layer(viewer, into) if isinstance(into, str) else into
    target = None if layer is None else MergeTarget(viewer, layer, image, rule or MergeRule())
    saved = None if folder is None else Path(folder)
    settings = settings or Settings()
    if block:
        segmentation = LayerSegmentation(image, trained, settings, spacing_mm, folder=saved)
        try:
            result = run_to_end(segmentation.steps())
            if target is None:
                found = add_result(viewer, result, image)
            else:
                target.merge(result)
                found = target.layer
            if result.uncertainty is not None:
                add_uncertainty(viewer, result, image)
            segmentation.forget_saved()
        finally:
            segmentation.close()
            if segmentation.saving_problem is not None:
                warnings.warn(segmentation.saving_problem, stacklevel=2)
        return found

    from napari.utils.notifications import show_error, show_info

    from napari_nnunet_cpu.viewer.run.live_run import LiveRun

    run = LiveRun(
        viewer, chosen[0], image, trained, settings, spacing_mm, folder=saved, target=target, priority=priority
    )
    run.failed.connect(lambda error: show_error(str(error)))
    run.ended.connect(lambda labels: show_info(run.remark) if labels is not None and run.remark else None)
    run.start()
    return run


def save_corrected_layer(
    viewer: ViewerModel,
    labels: str | Labels,
    layers: str | Image | Sequence[str | Image],
    model: OneModel,
    folder: str | os.PathLike[str],
    *,
    spacing_mm: Spacing | None = None,
    axes: str | None = None,
) -> tuple[str, ...]:
    """Save labels, as somebody corrected them, with their image to a folder on which nnU-Net can train.

    The folder is a raw dataset of nnU-Net: imagesTr, labelsTr and dataset.json. Saving the same
    image again replaces its labels. Each time point is a case of its own.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Where the layers are.
    labels : layer or name
        What `segment_layer` added, or another layer on the same grid.
    layers, axes, spacing_mm
        The image, as `segment_layer` takes it.
    model : TrainedModel or path
        The model whose labels were corrected.
    folder : path
        Made when it is not there. Its name should be as nnU-Net wants it, DatasetXXX_Name in nnUNet_raw.

    Returns
    -------
    tuple of str
        The names under which the image, or each of its time points, is in the folder.

    Raises
    ------
    NNUNetCPUError
        When something does not fit, such as labels that the model does not name.
    """
    trained = model if isinstance(model, TrainedModel) else load_model(model)
    layer = _layer(viewer, labels) if isinstance(labels, str) else labels
    return save_corrected(folder, layer, _image(_layers(viewer, layers), trained, axes), trained, spacing_mm)


def _layers(viewer: ViewerModel, layers: str | Image | Sequence[str | Image]) -> list[Image]:
    named = [layers] if isinstance(layers, str) or not isinstance(layers, Sequence) else layers
    return [_layer(viewer, layer) if isinstance(layer, str) else layer for layer in named]


def _image(layers: list[Image], model: TrainedModel, axes: str | None) -> LayerImage:
    planar = len(model.configuration.patch_size) == 2
    return image_from_layers(layers, axes=axes, channels=len(model.channel_names), planar=planar)


def _layer(viewer: ViewerModel, name: str) -> Layer:
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

    from napari_nnunet_cpu.viewer.image.sample import case_layer

    viewer = napari.Viewer()
    image = image_from_layers([viewer.add_layer(case_layer(case))])
    labels = LayerLabels(image)
    labels.add(result)
    add_result(viewer, labels.result(), image)
    viewer.dims.current_step = tuple(length // 2 for length in case.shape)
    napari.run()
