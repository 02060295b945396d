"""Deliver the labels of a run to its viewer: into a layer of the user or a new one, selected or in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning

from napari_nnunet_cpu.errors import NNUNetCPUError
from napari_nnunet_cpu.viewer.results import add_first_stage, add_with_names, changes_of, labels_layer, title

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_nnunet_cpu.viewer.image import LayerImage
    from napari_nnunet_cpu.viewer.results import LayerResult, MergeTarget
    from napari_nnunet_cpu.viewer.run.preview import Preview


class Delivery:
    """Turns the results of a run into layers. The preview becomes the layer of a result, or is removed."""

    def __init__(self, viewer: ViewerModel, image: LayerImage, preview: Preview) -> None:
        self._viewer = viewer
        self._image = image
        self._preview = preview

    def deliver(self, result: LayerResult, target: MergeTarget | None, background: bool) -> tuple[Labels, str]:
        """Merge the labels into the target, or into a new layer if there is no target or it can't take them any more.

        A new layer is selected unless `background`. Returns the layer and a remark for people.
        """
        remarks = []
        if target is not None:
            try:
                target.merge(result)
            except NNUNetCPUError as error:
                show_warning(f"{error}; the labels are in a new layer")
                target = None
        if target is None:
            labels = self.new_layer(result, select=not background)
            if background:
                remarks.append(f"{labels.name} is not selected" + ("" if labels.visible else ", and hidden"))
        else:
            self._preview.remove()
            labels = target.layer
            remarks.append(f"merged into {labels.name}")
        change = changes_of(self._image)
        if change is not None:
            remarks.append(f"{title(self._image)} {change} during the run: the labels are those of the image before")
        return labels, "; ".join(remarks)

    def new_layer(self, result: LayerResult, select: bool) -> Labels:
        """Make a layer of a result. It is as visible as the preview was; without one, only if it is selected."""
        image = self._image if result.origin is None else result.origin.image
        add_first_stage(self._viewer, result, image)
        layer = self._preview.become(result) if image.times == self._image.times else None
        if layer is None:
            visible = select or (self._preview.layer is not None and self._preview.layer.visible)
            self._preview.remove()
            layer = labels_layer(result, image)
            layer.visible = visible
            add_with_names(self._viewer, layer, result.label_names)
        if result.first_stage is not None:  # because its layer was added above the preview
            self._viewer.layers.move(self._viewer.layers.index(layer), len(self._viewer.layers))
        if select:
            self._viewer.layers.selection.active = layer
        return layer
