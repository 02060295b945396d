"""The result as a Labels layer on its image, with names, colours and provenance."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd  # here, because napari imports it for the first layer and would freeze the window
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_nnunet_cpu.viewer.foreground import add_unselected
from napari_nnunet_cpu.viewer.image import LayerImage
from napari_nnunet_cpu.viewer.results.layer_result import LayerResult
from napari_nnunet_cpu.viewer.results.origin import bind

if TYPE_CHECKING:
    from napari.components import ViewerModel

# A hue step by the golden ratio keeps any number of colours far apart.
_HUE_STEP = 0.618033988749895
_UNNAMED = (0.6, 0.6, 0.6, 1.0)


def add_result(viewer: ViewerModel, result: LayerResult, image: LayerImage) -> Labels:
    """Add the layer of a result to a viewer and select it; for a cascade, also add the labels of its first stage."""
    add_first_stage(viewer, result, image)
    layer = add_with_names(viewer, labels_layer(result, image), result.label_names)
    viewer.layers.selection.active = layer
    return layer


def add_first_stage(viewer: ViewerModel, result: LayerResult, image: LayerImage) -> None:
    """Add the labels of a cascade's first stage as a hidden layer, if the run computed them."""
    if result.first_stage is not None:
        first = labels_layer(result.first_stage, image)
        stage = result.first_stage.provenance["runs"][0]["model"]["configuration"]
        first.name, first.visible = f"{image.name} {stage} labels", False
        add_with_names(viewer, first, result.first_stage.label_names)


def add_with_names(viewer: ViewerModel, layer: Labels, names: dict[int, str]) -> Labels:
    """Add a layer to a viewer, unselected, with the names of its labels for the status bar.

    The names are set after adding it, because in 3D napari looks up the label under the cursor at once, and fails
    before the layer is on the canvas.
    """
    add_unselected(viewer, layer)
    layer.features = pd.DataFrame({"index": list(names), "name": list(names.values())})
    return layer


def labels_layer(result: LayerResult, image: LayerImage) -> Labels:
    """Make the layer of a result, exactly on its image, without adding it; provenance is in `metadata["nnunet"]`."""
    names = result.label_names
    layer = Labels(
        result.labels,
        name=labels_name(image),
        colormap=label_colors(names),
        metadata=image.metadata | {"nnunet": result.provenance},
        **image.placement.labels_transforms(image.times),
    )
    bind(layer, result.origin)
    return layer


def prepare_colors() -> None:
    """Let numba compile how napari colours labels, because the first layer would freeze the window for a second."""
    label_colors({1: ""}).map(np.zeros(1, np.uint8))


def labels_name(image: LayerImage) -> str:
    """The name of the layer with the labels of an image."""
    return f"{image.name} labels"


def label_colors(names: dict[int, str]) -> DirectLabelColormap:
    """Distinct colours for the named labels; labels without a name are grey."""
    colors: dict[int | None, tuple[float, ...] | str] = {None: _UNNAMED, 0: "transparent"}
    for number, value in enumerate(value for value in names if value):
        # Two alternating lightnesses, so that neighbours on the hue circle differ.
        red, green, blue = colorsys.hls_to_rgb(number * _HUE_STEP % 1, 0.5 if number % 2 else 0.6, 0.85)
        colors[value] = (red, green, blue, 1.0)
    return DirectLabelColormap(color_dict=colors)
