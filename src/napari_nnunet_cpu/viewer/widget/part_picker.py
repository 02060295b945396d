"""Choose the part of the image to segment: all, the part in view, the box of a shape, or typed bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container, LineEdit, Widget
from napari.layers import Image, Shapes

from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.settings import parse_box
from napari_nnunet_cpu.viewer.image import box_in_view, box_of_shapes

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_nnunet_cpu.boxes import Box
    from napari_nnunet_cpu.viewer.image import LayerImage

# Not None, because the ComboBox emits no event when its value becomes None.
_ALL, _VIEW, _TYPED = "everything", "view", "typed"
_HELP = (
    "Segment only a part: its labels equal those of a run on the whole image, and a run on a larger part, or on\n"
    "everything, reuses its tiles. Draw a rectangle in a Shapes layer, or zoom to the part you need."
)


class PartPicker(Container[Widget]):
    """A box for the part of the image, and a line for typed bounds.

    Attributes
    ----------
    kind : ComboBox
        "everything", "view", "typed", or a Shapes layer.
    bounds : LineEdit
        "z0:z1, y0:y1, x0:x1" in voxels, along the axes that the widget shows; visible for "typed".
    """

    def __init__(self, viewer: ViewerModel, on_change: Callable[[], None]) -> None:
        self._viewer = viewer
        self.kind = ComboBox(label="part", choices=self._offered, tooltip=_HELP)
        self.bounds = LineEdit(label="bounds", tooltip="start:stop along Z, Y, X, as 40:80, 60:160, 60:160")
        super().__init__(widgets=[self.kind, self.bounds], labels=True)
        self.margins = (0, 0, 0, 0)
        self.bounds.visible = False
        self.kind.changed.connect(self._show_bounds)
        self.kind.changed.connect(lambda _: on_change())
        self.bounds.changed.connect(lambda _: on_change())

    def box(self, layer: Image | None, image: LayerImage) -> Box | None:
        """The chosen box in file order; None for the whole image.

        Raises `CaseError` or `SettingsError` if the box does not lie on the image.
        """
        kind = self.kind.value
        if layer is None or kind is None:
            return None
        if isinstance(kind, Shapes):
            return box_of_shapes(kind, layer, image)
        if kind == _TYPED:
            return parse_box(self.bounds.value)
        if kind == _VIEW:
            if layer not in self._viewer.layers:
                raise CaseError(f"{image.name} is not in the viewer any more; choose another image")
            return box_in_view(self._viewer, layer, image)
        return None

    def _offered(self, _: Any = None) -> list[tuple[str, Any]]:
        shapes = [layer for layer in self._viewer.layers if isinstance(layer, Shapes)]
        return [
            ("everything", _ALL),
            ("the part in view", _VIEW),
            *((f"around the shapes in {layer.name}", layer) for layer in shapes),
            ("typed bounds", _TYPED),
        ]

    def _show_bounds(self, kind: Any) -> None:
        self.bounds.visible = isinstance(kind, str) and kind == _TYPED
