"""Segment layers of a viewer from scripts, waiting for the result or not."""

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
from napari_nnunet_cpu.viewer.image import LayerImage, at_time, image_from_layers
from napari_nnunet_cpu.viewer.results import (
    LayerLabels,
    MergeRule,
    MergeTarget,
    add_result,
    add_uncertainty,
    save_corrected,
)
from napari_nnunet_cpu.viewer.run.layer_segmentation import LayerSegmentation

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_nnunet_cpu.cases import Spacing
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
    """Segment an image in a viewer and add the labels as a layer.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Holds the layers; a `ViewerModel` needs no window.
    layers : layer or name, or a sequence of them
        The image: one layer per channel of the model, or one layer with all channels, along an axis of
        that length or as RGB.
    model : TrainedModel or path, or a sequence of them
        The probabilities of several models are averaged.
    settings : Settings, optional
        By default those of the preset exact.
    spacing_mm : tuple of float, optional
        Spacing (Z, Y, X) in mm, if the layer does not state it.
    axes : str, optional
        The axes of the layer, if it does not state them: "T, C, Z, Y, X" in any order, one letter per
        axis, with a minus for an axis that runs backwards ("X, -Y, Z"). Z, Y, X are the axes of the
        files that the model was trained on, Z the slowest. For models that reorient images to RAS
        first, the directions of the body along the axes: "S, A, R" or "I, P, L".
    time : int or {"current", "all"}
        For a time series: the number of a time point, the one on screen, or all of them one after
        the other. The labels cover only these time points.
    into : layer or name, optional
        A Labels layer to merge the labels into, as one step that can be undone. By default they get a
        new layer.
    rule : MergeRule, optional
        Which labels of `into` may be overwritten; by default only background (0).
    folder : path, optional
        Folder of the run file that saves the run, and from which it resumes. If it can't be written,
        a warning says why.
    priority : int
        Without `block`: below 0, the run pauses while another run needs the computer.
    block : bool
        Wait for the result. Otherwise a thread computes while the viewer stays usable, which needs Qt.

    Returns
    -------
    Labels or LiveRun
        The labels layer; the uncertainty, if the settings ask for it, gets a layer beside it. Without
        `block`, the started run: listen to its `progressed`, `ended` and `failed`, `cancel` it,
        `choose` another part and `start` it again, or `wait` for it.

    Raises
    ------
    NNUNetCPUError
        When layers, model and settings do not fit. Without `block`, later errors go to `failed`.
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
            result = run_to_end(segmentation)
            if target is None:
                found = add_result(viewer, result, image)
            else:
                target.merge(result)
                found = target.layer
            if result.uncertainty is not None:
                add_uncertainty(viewer, result, image)
            segmentation.files.remove()
        finally:
            segmentation.close()
            if segmentation.files.problem is not None:
                warnings.warn(segmentation.files.problem, stacklevel=2)
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
    """Save corrected labels with their image to a folder on which nnU-Net can train.

    The folder is a raw dataset of nnU-Net: imagesTr, labelsTr and dataset.json. Saving the same
    image again replaces its labels. Each time point is a case of its own.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Holds the layers.
    labels : layer or name
        The layer that `segment_layer` added, or another layer on the same grid.
    layers, axes, spacing_mm
        The image, as in `segment_layer`.
    model : TrainedModel or path
        The model whose labels were corrected.
    folder : path
        Created if necessary. nnU-Net needs a name like DatasetXXX_Name, in nnUNet_raw.

    Returns
    -------
    tuple of str
        The identifier of the image, or of each of its time points, in the folder.

    Raises
    ------
    NNUNetCPUError
        When image, labels and model do not fit, for example if a label has no name in the model.
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
    """Show a case and its labels in a new napari window, until the user closes it.

    Raises `ViewerError` if no Qt binding is installed.
    """
    try:
        import qtpy  # noqa: F401  # fails without a binding
    except ImportError as error:
        raise ViewerError("no window can be opened: no Qt binding is installed; pip install 'napari[all]'") from error
    import napari

    from napari_nnunet_cpu.viewer.image import case_layer

    viewer = napari.Viewer()
    image = image_from_layers([viewer.add_layer(case_layer(case))])
    labels = LayerLabels(image)
    labels.add(result)
    add_result(viewer, labels.result(), image)
    viewer.dims.current_step = tuple(length // 2 for length in case.shape)
    napari.run()
