"""The result as a Labels layer: on the image, with names, colours and its history."""

from __future__ import annotations

import colorsys

from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_nnunet_cpu.predict import Result
from napari_nnunet_cpu.viewer.layers import LayerImage

# Turning the hue by this share of the circle keeps any number of colours far apart (golden ratio).
_HUE_STEP = 0.618033988749895
_UNNAMED = (0.6, 0.6, 0.6, 1.0)


def labels_layer(result: Result, image: LayerImage) -> Labels:
    """Make the layer of a result.

    Parameters
    ----------
    result : Result
        Labels (Z, Y, X) in file order.
    image : LayerImage
        What they were made from: the layer lies exactly on it.

    Returns
    -------
    Labels
        Names of the labels in `features`, settings and versions in `metadata["nnunet"]`.
    """
    names = result.label_names
    return Labels(
        image.to_layer(result.labels),
        name=f"{image.name} labels",
        colormap=label_colors(names),
        features={"index": list(names), "name": list(names.values())},
        metadata=image.metadata | {"nnunet": result.provenance},
        **image.transforms,
    )


def label_colors(names: dict[int, str]) -> DirectLabelColormap:
    """Distinct colours for the named labels; labels painted later that have no name are grey."""
    colors: dict[int | None, tuple[float, ...] | str] = {None: _UNNAMED, 0: "transparent"}
    for number, value in enumerate(value for value in names if value):
        # A second lightness for every other label tells neighbours on the hue circle apart.
        red, green, blue = colorsys.hls_to_rgb(number * _HUE_STEP % 1, 0.5 if number % 2 else 0.6, 0.85)
        colors[value] = (red, green, blue, 1.0)
    return DirectLabelColormap(color_dict=colors)
