"""The result as a Labels layer: on the image, with names, colours and its history."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import pandas as pd  # here, for napari would read it on the first layer, and hold up the window
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_nnunet_cpu.viewer.foreground import add_unselected
from napari_nnunet_cpu.viewer.image.layers import LayerImage
from napari_nnunet_cpu.viewer.results.layer_result import LayerResult
from napari_nnunet_cpu.viewer.results.origin import bind

if TYPE_CHECKING:
    from napari.components import ViewerModel

# Turning the hue by this share of the circle keeps any number of colours far apart (golden ratio).
_HUE_STEP = 0.618033988749895
_UNNAMED = (0.6, 0.6, 0.6, 1.0)


def add_result(viewer: ViewerModel, result: LayerResult, image: LayerImage) -> Labels:
    """Add the layer of a result to a viewer, selected, and, of a cascade, that of its first stage.

    Returns
    -------
    Labels
        The layer of the result.
    """
    add_first_stage(viewer, result, image)
    layer = add_with_names(viewer, labels_layer(result, image), result.label_names)
    viewer.layers.selection.active = layer
    return layer


def add_first_stage(viewer: ViewerModel, result: LayerResult, image: LayerImage) -> None:
    """Add the layer of a cascade's first stage, where it was run: hidden, to be used again."""
    if result.first_stage is not None:
        first = labels_layer(result.first_stage, image)
        stage = result.first_stage.provenance["runs"][0]["model"]["configuration"]
        first.name, first.visible = f"{image.name} {stage} labels", False
        add_with_names(viewer, first, result.first_stage.label_names)


def add_with_names(viewer: ViewerModel, layer: Labels, names: dict[int, str]) -> Labels:
    """Add a layer to a viewer, not selected, with the names of its labels, which the status bar shows.

    The names come last: in 3D napari looks for the one under the cursor at once, and fails where that has not been
    on the canvas yet.
    """
    add_unselected(viewer, layer)
    layer.features = pd.DataFrame({"index": list(names), "name": list(names.values())})
    return layer


def labels_layer(result: LayerResult, image: LayerImage) -> Labels:
    """Make the layer of a result.

    Parameters
    ----------
    result : LayerResult
        Labels on the grid of the image layer.
    image : LayerImage
        What they were made from: the layer lies exactly on it.

    Returns
    -------
    Labels
        Settings and versions are in `metadata["nnunet"]`; not added to a viewer yet.
    """
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


def labels_name(image: LayerImage) -> str:
    """Of the layer of an image's labels."""
    return f"{image.name} labels"


def label_colors(names: dict[int, str]) -> DirectLabelColormap:
    """Distinct colours for the named labels; labels painted later that have no name are grey."""
    colors: dict[int | None, tuple[float, ...] | str] = {None: _UNNAMED, 0: "transparent"}
    for number, value in enumerate(value for value in names if value):
        # A second lightness for every other label tells neighbours on the hue circle apart.
        red, green, blue = colorsys.hls_to_rgb(number * _HUE_STEP % 1, 0.5 if number % 2 else 0.6, 0.85)
        colors[value] = (red, green, blue, 1.0)
    return DirectLabelColormap(color_dict=colors)
