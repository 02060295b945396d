"""The results of a run in the viewer: Labels layers, uncertainty, merged and corrected labels."""

from napari_nnunet_cpu.viewer.results.corrected_labels import save_corrected
from napari_nnunet_cpu.viewer.results.labels import (
    add_first_stage,
    add_result,
    add_with_names,
    label_colors,
    labels_layer,
    labels_name,
    prepare_colors,
)
from napari_nnunet_cpu.viewer.results.layer_result import LayerLabels, LayerResult
from napari_nnunet_cpu.viewer.results.merge import MergeRule, MergeTarget
from napari_nnunet_cpu.viewer.results.origin import Origin, bind, changes_of, check_image, origin_of, state_of, title
from napari_nnunet_cpu.viewer.results.uncertainty import UncertainSlices, add_uncertainty, uncertainty_layer_of
