"""Image layers as cases: their axes, spacing and placement, and the part of them in view."""

from napari_nnunet_cpu.viewer.image.layers import LayerImage, image_from_layers
from napari_nnunet_cpu.viewer.image.placement import layer_placement
from napari_nnunet_cpu.viewer.image.sample import case_layer
from napari_nnunet_cpu.viewer.image.view_state import (
    at_time,
    box_in_view,
    box_of_shapes,
    focus_of,
    viewer_units,
    voxel_shown,
)
