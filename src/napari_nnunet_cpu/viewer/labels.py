"""The result as a Labels layer: on the image, with names, colours and its history."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_nnunet_cpu.viewer.layers import LayerImage
from napari_nnunet_cpu.viewer.time_points import LayerResult

if TYPE_CHECKING:
    from napari.components import ViewerModel

# Turning the hue by this share of the circle keeps any number of colours far apart (golden ratio).
_HUE_STEP = 0.618033988749895
_UNNAMED = (0.6, 0.6, 0.6, 1.0)


def add_result(viewer: ViewerModel, result: LayerResult, image: LayerImage) -> Labels:
    """Add the layer of a result to a viewer and, of a cascade, that of its first stage, hidden: it can be used again.

    Returns
    -------
    Labels
        The layer of the result.
    """
    if result.first_stage is not None:
        first = labels_layer(result.first_stage, image)
        stage = result.first_stage.provenance["runs"][0]["model"]["configuration"]
        first.name, first.visible = f"{image.name} {stage} labels", False
        viewer.add_layer(first)
    layer = labels_layer(result, image)
    viewer.add_layer(layer)
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
        Names of the labels in `features`, settings and versions in `metadata["nnunet"]`.
    """
    names = result.label_names
    return Labels(
        result.labels,
        name=f"{image.name} labels",
        colormap=label_colors(names),
        features={"index": list(names), "name": list(names.values())},
        metadata=image.metadata | {"nnunet": result.provenance},
        **image.placement.labels_transforms(image.times),
    )


def label_colors(names: dict[int, str]) -> DirectLabelColormap:
    """Distinct colours for the named labels; labels painted later that have no name are grey."""
    colors: dict[int | None, tuple[float, ...] | str] = {None: _UNNAMED, 0: "transparent"}
    for number, value in enumerate(value for value in names if value):
        # A second lightness for every other label tells neighbours on the hue circle apart.
        red, green, blue = colorsys.hls_to_rgb(number * _HUE_STEP % 1, 0.5 if number % 2 else 0.6, 0.85)
        colors[value] = (red, green, blue, 1.0)
    return DirectLabelColormap(color_dict=colors)
